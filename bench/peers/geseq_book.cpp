/* A peer for the matcher bench: geseq/cpp-orderbook with its tick array, over the same XFLOW001 file, in one thread.

   Only this file is ours. Build it outside of the tree, against the sources of geseq/cpp-orderbook, cpp-decimal and cpp-pool and
   Boost's headers (bench/README.md). A move is cancel and add, for the book has none; what rests of an order is kept here, because
   the book does not say. Arguments and output: as of book_limit.c. */

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "orderbook.hpp"

using namespace orderbook;

namespace {

constexpr uint64_t HASH_START = 14695981039346656037ULL, HASH_FACTOR = 1099511628211ULL, ONE = 100000000;
constexpr uint64_t STRETCH = 4096;

struct Header {
    char magic[8];
    uint32_t version, record;
    uint64_t prefill, total;
    int64_t price_min, price_max;
    uint64_t max_id, seed;
};

struct Record {
    uint64_t id;
    int64_t price, qty;
    uint8_t type, side;
    uint16_t uid;
    uint32_t zero;
};

struct Resting {
    int64_t qty;
    uint8_t side;
};

struct Trades : NotificationInterface<Trades> {
    std::vector<Resting> orders;
    uint64_t count = 0, hash = HASH_START, taker = 0;
    int64_t taker_left = 0;

    void onExecutionReport(const ExecutionReport &report)
    {
        if (report.exec_type != ExecType::Trade)
            return;
        uint64_t lots = report.last_qty.to_int(), price = report.last_price.to_int();
        count++;
        hash = hash * HASH_FACTOR + report.maker_order_id * 31 + taker * 17 + price * 7 + lots;
        orders[report.maker_order_id].qty -= (int64_t)lots;
        taker_left -= (int64_t)lots;
    }
};

int64_t clock_ns(clockid_t clock)
{
    timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void apply(OrderBook<Trades> &book, Trades &trades, const Record &r)
{
    uint8_t side = r.side;
    int64_t qty = r.qty;
    if (r.type >= 2) {
        Resting &order = trades.orders[r.id];
        side = order.side;
        qty = order.qty;
        book.cancelOrder(r.id);
        if (r.type == 2)
            return;
    }
    trades.taker = r.id;
    trades.taker_left = qty;
    book.addOrder(r.id, Type::Limit, side == 0 ? Side::Buy : Side::Sell, Decimal((uint64_t)qty, 0), Decimal((uint64_t)r.price, 0),
                  r.type == 1 ? Flag::IoC : Flag::None);
    trades.orders[r.id] = {trades.taker_left, side};
}

void run(const Header &header, const std::vector<Record> &records)
{
    Trades trades;
    trades.orders.resize(header.max_id + 1);
    OrderBook<Trades> book(trades, 1 << 16, 1 << 18, 1 << 18, (uint64_t)header.price_min * ONE, ONE,
                           (size_t)(header.price_max - header.price_min + 1));
    for (uint64_t k = 0; k < header.prefill; k++)
        apply(book, trades, records[k]);
    std::vector<int64_t> marks;
    marks.reserve(records.size() / STRETCH + 2);
    int64_t began = clock_ns(CLOCK_MONOTONIC), began_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t k = header.prefill; k < header.total; k++) {
        if ((k - header.prefill) % STRETCH == 0)
            marks.push_back(clock_ns(CLOCK_MONOTONIC));
        apply(book, trades, records[k]);
    }
    int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_cpu, took = clock_ns(CLOCK_MONOTONIC) - began;
    marks.push_back(began + took);
    std::printf("%lld %lld %llu %llu", (long long)took, (long long)cpu, (unsigned long long)trades.count,
                (unsigned long long)trades.hash);
    for (size_t k = 0; k + 1 < marks.size(); k++)
        std::printf(" %lld", (long long)(marks[k + 1] - marks[k]));
    std::putchar('\n');
}

} // namespace

int main(int argc, char **argv)
{
    Header header;
    std::FILE *file = argc == 3 ? std::fopen(argv[1], "rb") : nullptr;
    if (!file || std::fread(&header, sizeof header, 1, file) != 1 || std::memcmp(header.magic, "XFLOW001", 8)) {
        std::fprintf(stderr, "usage: geseq_book FILE RUNS, with an XFLOW001 file\n");
        return 2;
    }
    if (header.price_max - header.price_min >= 1 << 20) {
        std::fprintf(stderr, "geseq_book: the file's prices need a larger array\n");
        return 3;
    }
    std::vector<Record> records(header.total);
    if (std::fread(records.data(), sizeof(Record), header.total, file) != header.total) {
        std::fprintf(stderr, "geseq_book: %s is cut off\n", argv[1]);
        return 1;
    }
    for (int k = 0; k < std::atoi(argv[2]); k++)
        run(header, records);
    std::fclose(file);
}
