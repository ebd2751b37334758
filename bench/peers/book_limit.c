/* The limit for the matcher bench: a bare order book in C over the same XFLOW001 file, in one thread.

   One ladder of price ticks a side (head and tail of a FIFO by index), bitmaps of three levels for the next best price, 32-byte
   order slots indexed by the file's own dense ids, nothing allocated while it runs. It matches and hashes trades and does nothing
   else: no accounts, no events, no hand-off. Arguments: file, runs. Prints for each run nanoseconds, CPU nanoseconds, trades and
   the trade hash, then nanoseconds of each stretch of 4,096 messages; the prefill is not timed. */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICKS (64 * 64 * 64)
#define STRETCH 4096
#define HASH_START 14695981039346656037ULL
#define HASH_FACTOR 1099511628211ULL

struct header {
    char magic[8];
    uint32_t version, record;
    uint64_t prefill, total;
    int64_t price_min, price_max;
    uint64_t max_id, seed;
};

struct record {
    uint64_t id;
    int64_t price, qty;
    uint8_t type, side;
    uint16_t uid;
    uint32_t zero;
};

struct level {
    uint32_t head, tail;
};

struct order {
    int64_t qty;
    uint32_t next, prev, tick, side;
    uint64_t reserved;
};

struct book {
    struct level *levels[2];
    uint64_t *bits[2][3];
    struct order *orders;
    int64_t best[2]; /* tick; -1 = none */
    uint64_t trades, hash;
};

static void set_bit(struct book *book, int side, uint32_t tick)
{
    for (int depth = 0; depth < 3; depth++, tick >>= 6)
        book->bits[side][depth][tick >> 6] |= 1ULL << (tick & 63);
}

static void clear_bit(struct book *book, int side, uint32_t tick)
{
    for (int depth = 0; depth < 3; depth++, tick >>= 6) {
        uint64_t *word = &book->bits[side][depth][tick >> 6];
        *word &= ~(1ULL << (tick & 63));
        if (*word)
            return;
    }
}

/* The next tick that has orders, downwards for bids and upwards for asks; -1 = none. */
static int64_t next_tick(struct book *book, int side, uint32_t tick)
{
    for (int depth = 0; depth < 3; depth++, tick >>= 6) {
        uint64_t word = book->bits[side][depth][tick >> 6];
        uint32_t bit = tick & 63;
        word &= side == 0 ? (1ULL << bit) - 1 : bit == 63 ? 0 : ~0ULL << (bit + 1);
        if (!word)
            continue;
        uint64_t found = (tick & ~63ULL) | (uint64_t)(side == 0 ? 63 - __builtin_clzll(word) : __builtin_ctzll(word));
        while (depth-- > 0) {
            word = book->bits[side][depth][found];
            found = found << 6 | (uint64_t)(side == 0 ? 63 - __builtin_clzll(word) : __builtin_ctzll(word));
        }
        return (int64_t)found;
    }
    return -1;
}

static void empty_level(struct book *book, int side, uint32_t tick)
{
    clear_bit(book, side, tick);
    if (book->best[side] == (int64_t)tick)
        book->best[side] = next_tick(book, side, tick);
}

static void rest(struct book *book, uint32_t id, int side, uint32_t tick, int64_t qty)
{
    struct level *level = &book->levels[side][tick];
    book->orders[id] = (struct order){qty, 0, level->tail, tick, (uint32_t)side, 0};
    if (level->tail) {
        book->orders[level->tail].next = id;
    } else {
        level->head = id;
        set_bit(book, side, tick);
        if (book->best[side] < 0 || (side == 0 ? (int64_t)tick > book->best[0] : (int64_t)tick < book->best[1]))
            book->best[side] = tick;
    }
    level->tail = id;
}

static void take_off(struct book *book, uint32_t id)
{
    struct order *order = &book->orders[id];
    struct level *level = &book->levels[order->side][order->tick];
    if (order->prev)
        book->orders[order->prev].next = order->next;
    else
        level->head = order->next;
    if (order->next)
        book->orders[order->next].prev = order->prev;
    else
        level->tail = order->prev;
    if (!level->head)
        empty_level(book, (int)order->side, order->tick);
}

static int64_t match(struct book *book, uint64_t taker, int side, uint32_t tick, int64_t base, int64_t qty)
{
    int other = 1 - side;
    while (qty) {
        int64_t best = book->best[other];
        if (best < 0 || (side == 0 ? best > (int64_t)tick : best < (int64_t)tick))
            break;
        struct level *level = &book->levels[other][best];
        while (qty && level->head) {
            uint32_t maker = level->head;
            struct order *order = &book->orders[maker];
            int64_t lots = order->qty < qty ? order->qty : qty;
            book->trades++;
            book->hash = book->hash * HASH_FACTOR + maker * 31ULL + taker * 17 + (uint64_t)(best + base) * 7 + (uint64_t)lots;
            qty -= lots;
            order->qty -= lots;
            if (order->qty == 0) {
                level->head = order->next;
                if (order->next)
                    book->orders[order->next].prev = 0;
                else
                    level->tail = 0;
            }
        }
        if (!level->head)
            empty_level(book, other, (uint32_t)best);
    }
    return qty;
}

static void apply(struct book *book, const struct record *r, int64_t base)
{
    uint32_t id = (uint32_t)r->id, tick = (uint32_t)(r->price - base);
    int side = r->side;
    int64_t qty = r->qty;
    if (r->type >= 2) {
        side = (int)book->orders[id].side;
        qty = book->orders[id].qty;
        take_off(book, id);
        if (r->type == 2)
            return;
    }
    qty = match(book, id, side, tick, base, qty);
    if (qty && r->type != 1)
        rest(book, id, side, tick, qty);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *zeros(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fprintf(stderr, "book_limit: out of memory\n");
        exit(1);
    }
    return memory;
}

static void run(const struct header *header, const struct record *records)
{
    struct book book = {.best = {-1, -1}, .hash = HASH_START};
    for (int side = 0; side < 2; side++) {
        book.levels[side] = zeros(TICKS, sizeof(struct level));
        for (int depth = 0, words = TICKS / 64; depth < 3; depth++, words /= 64)
            book.bits[side][depth] = zeros((size_t)words, 8);
    }
    book.orders = zeros(header->max_id + 1, sizeof(struct order));
    for (uint64_t k = 0; k < header->prefill; k++)
        apply(&book, &records[k], header->price_min);
    int64_t began = clock_ns(CLOCK_MONOTONIC), began_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t stretches = 0;
    int64_t *marks = zeros((header->total - header->prefill) / STRETCH + 2, sizeof(int64_t));
    for (uint64_t k = header->prefill; k < header->total; k++) {
        if ((k - header->prefill) % STRETCH == 0)
            marks[stretches++] = clock_ns(CLOCK_MONOTONIC);
        apply(&book, &records[k], header->price_min);
    }
    int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_cpu, took = clock_ns(CLOCK_MONOTONIC) - began;
    marks[stretches] = began + took;
    printf("%lld %lld %llu %llu", (long long)took, (long long)cpu, (unsigned long long)book.trades, (unsigned long long)book.hash);
    for (uint64_t k = 0; k < stretches; k++)
        printf(" %lld", (long long)(marks[k + 1] - marks[k]));
    putchar('\n');
    free(marks);
    for (int side = 0; side < 2; side++) {
        free(book.levels[side]);
        for (int depth = 0; depth < 3; depth++)
            free(book.bits[side][depth]);
    }
    free(book.orders);
}

int main(int argc, char **argv)
{
    struct header header;
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!file || fread(&header, sizeof header, 1, file) != 1 || memcmp(header.magic, "XFLOW001", 8)) {
        fprintf(stderr, "usage: book_limit FILE RUNS, with an XFLOW001 file\n");
        return 2;
    }
    if (header.price_max - header.price_min >= TICKS || header.max_id >= UINT32_MAX) {
        fprintf(stderr, "book_limit: the file's prices or ids need a larger ladder\n");
        return 3;
    }
    struct record *records = zeros(header.total, sizeof(struct record));
    if (fread(records, sizeof(struct record), header.total, file) != header.total) {
        fprintf(stderr, "book_limit: %s is cut off\n", argv[1]);
        return 1;
    }
    for (int k = 0; k < atoi(argv[2]); k++)
        run(&header, records);
    free(records);
    fclose(file);
    return 0;
}
