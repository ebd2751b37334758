/* A peer for the matcher bench: PIYUSH-KUMAR1809/order-matching-engine's book and strategy over the same XFLOW001 file, in one thread.

   Only this file is ours. Build it outside of the tree, against that repository's src (bench/README.md). The book has no immediate
   orders and no move: what is left of an immediate one is cancelled, and a move is cancel and add. What rests of an order is kept
   here, because the book does not say. Its prices are 0 to 99,999, so those of the file are counted from the lowest one. Arguments
   and output: as of book_limit.c. */

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "MatchingStrategy.hpp"
#include "OrderBook.hpp"

namespace {

constexpr uint64_t HASH_START = 14695981039346656037ULL, HASH_FACTOR = 1099511628211ULL;
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

struct Replay {
    OrderBook book;
    StandardMatchingStrategy strategy;
    std::vector<Trade> trades;
    std::vector<Resting> orders;
    int64_t lowest;
    uint64_t count = 0, hash = HASH_START;

    explicit Replay(const Header &header) : orders(header.max_id + 1), lowest(header.price_min - 1) {}

    void apply(const Record &r)
    {
        uint8_t side = r.side;
        int64_t qty = r.qty;
        if (r.type >= 2) {
            side = orders[r.id].side;
            qty = orders[r.id].qty;
            book.cancelOrder(r.id);
            if (r.type == 2)
                return;
        }
        Order order(r.id, 0, 1, side == 0 ? OrderSide::Buy : OrderSide::Sell, OrderType::Limit, r.price - lowest, (Quantity)qty);
        strategy.match(book, order, trades);
        for (const Trade &trade : trades) {
            uint64_t price = (uint64_t)(trade.price + lowest);
            hash = hash * HASH_FACTOR + trade.makerOrderId * 31 + r.id * 17 + price * 7 + trade.quantity;
            orders[trade.makerOrderId].qty -= trade.quantity;
        }
        count += trades.size();
        trades.clear();
        orders[r.id] = {order.quantity, side};
        if (r.type == 1 && order.quantity != 0)
            book.cancelOrder(r.id);
    }
};

int64_t clock_ns(clockid_t clock)
{
    timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void run(const Header &header, const std::vector<Record> &records)
{
    Replay replay(header);
    for (uint64_t k = 0; k < header.prefill; k++)
        replay.apply(records[k]);
    std::vector<int64_t> marks;
    marks.reserve(records.size() / STRETCH + 2);
    int64_t began = clock_ns(CLOCK_MONOTONIC), began_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t k = header.prefill; k < header.total; k++) {
        if ((k - header.prefill) % STRETCH == 0)
            marks.push_back(clock_ns(CLOCK_MONOTONIC));
        replay.apply(records[k]);
    }
    int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_cpu, took = clock_ns(CLOCK_MONOTONIC) - began;
    marks.push_back(began + took);
    std::printf("%lld %lld %llu %llu", (long long)took, (long long)cpu, (unsigned long long)replay.count,
                (unsigned long long)replay.hash);
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
        std::fprintf(stderr, "usage: piyush_book FILE RUNS, with an XFLOW001 file\n");
        return 2;
    }
    if (header.price_max - header.price_min >= OrderBook::MAX_PRICE - 1) {
        std::fprintf(stderr, "piyush_book: the file's prices are more than the book has\n");
        return 3;
    }
    std::vector<Record> records(header.total);
    if (std::fread(records.data(), sizeof(Record), header.total, file) != header.total) {
        std::fprintf(stderr, "piyush_book: %s is cut off\n", argv[1]);
        return 1;
    }
    for (int k = 0; k < std::atoi(argv[2]); k++)
        run(header, records);
    std::fclose(file);
}
