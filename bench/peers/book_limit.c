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

#ifdef SLOTS
struct command {
    struct record record;
    uint64_t more[12];
};

struct verdict {
    uint64_t seq, code;
    int64_t price, qty;
};
#endif

struct order {
    int64_t qty;
    uint32_t next, prev, tick, side;
    uint64_t id;
#ifdef IDS
    uint32_t account, account_next, account_prev, more[5];
#endif
};

#ifdef EVENTS
struct event {
    uint64_t seq;
    uint32_t kind, instrument;
    uint64_t id;
    int64_t price, qty, left, taker_left;
    uint64_t hold;
};

#define EVENTS_MAX 4096
#define FOLDED_AT_ONCE 512
#endif

struct book {
    struct level *levels[2];
    uint64_t *bits[2][3];
    struct order *orders;
    int64_t best[2]; /* tick; -1 = none */
    uint64_t trades, hash;
#ifdef IDS
    uint64_t *ids; /* id << 32 | slot, 0 = none */
    uint64_t ids_mask;
    uint32_t *free;
    uint32_t slots, freed;
#endif
#ifdef ACCOUNTS
    uint32_t *accounts;
#endif
#ifdef EVENTS
    struct event *events;
    uint64_t said, folded, events_hash, seq;
#endif
};

#ifdef IDS
#define ID_HOME(book, id) ((((id) * 0x9E3779B97F4A7C15ULL >> 24) ^ (id)) & (book)->ids_mask)

static uint32_t slot_of(const struct book *book, uint64_t id)
{
    for (uint64_t at = ID_HOME(book, id);; at = (at + 1) & book->ids_mask)
        if (!book->ids[at] || book->ids[at] >> 32 == id)
            return (uint32_t)book->ids[at];
}

static uint32_t new_slot(struct book *book, uint64_t id)
{
    uint32_t slot = book->freed ? book->free[--book->freed] : ++book->slots;
    uint64_t at = ID_HOME(book, id);
    while (book->ids[at])
        at = (at + 1) & book->ids_mask;
    book->ids[at] = id << 32 | slot;
    return slot;
}

static void forget(struct book *book, uint64_t id, uint32_t slot)
{
    uint64_t hole = ID_HOME(book, id), at;
    while (book->ids[hole] >> 32 != id)
        hole = (hole + 1) & book->ids_mask;
    for (at = (hole + 1) & book->ids_mask; book->ids[at]; at = (at + 1) & book->ids_mask) {
        if (((at - ID_HOME(book, book->ids[at] >> 32)) & book->ids_mask) >= ((at - hole) & book->ids_mask)) {
            book->ids[hole] = book->ids[at];
            hole = at;
        }
    }
    book->ids[hole] = 0;
    book->free[book->freed++] = slot;
}
#endif

#ifdef ACCOUNTS
static void join_account(struct book *book, uint32_t slot, uint32_t account)
{
    uint32_t first = book->accounts[account];
    struct order *order = &book->orders[slot];
    order->account = account;
    order->account_prev = 0;
    order->account_next = first;
    book->orders[first].account_prev = slot;
    book->accounts[account] = slot;
}

static void leave_account(struct book *book, uint32_t slot)
{
    struct order *order = &book->orders[slot];
    book->orders[order->account_next].account_prev = order->account_prev;
    book->orders[order->account_prev].account_next = order->account_next;
    if (!order->account_prev)
        book->accounts[order->account] = order->account_next;
}
#endif

#ifdef FOLD
static uint64_t mix(uint64_t word)
{
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9ULL;
    word = (word ^ word >> 27) * 0x94D049BB133111EBULL;
    return word ^ word >> 31;
}

static void fold(struct book *book)
{
    for (; book->folded < book->said; book->folded++) {
        const struct event *e = &book->events[book->folded % EVENTS_MAX];
        uint64_t word = e->seq * 0x9E3779B97F4A7C15ULL + (e->kind | (uint64_t)e->instrument << 16) * 0xE7037ED1A0B428DBULL;
        word += e->id * 0x8EBC6AF09C88C6E3ULL + (uint64_t)e->price * 0x589965CC75374CC3ULL + (uint64_t)e->qty * 0x1D8E4E27C47D124FULL;
        word += (uint64_t)e->left * 0xEB44ACCAB455D165ULL + (uint64_t)e->taker_left * 0xA0761D6478BD642FULL;
        book->events_hash += mix(word);
    }
}
#endif

#ifdef EVENTS
static void say(struct book *book, uint32_t kind, uint64_t id, int64_t price, int64_t qty, int64_t left, int64_t taker_left)
{
    book->events[book->said++ % EVENTS_MAX] = (struct event){book->seq, kind, 1, id, price, qty, left, taker_left, 0};
#ifdef FOLD
    if (book->said - book->folded == FOLDED_AT_ONCE)
        fold(book);
#endif
}
#endif

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

/* `name` is the order's id, `id` its slot: the same where ids are dense. */
static void rest(struct book *book, uint32_t id, uint64_t name, uint32_t account, int side, uint32_t tick, int64_t qty)
{
    struct level *level = &book->levels[side][tick];
    book->orders[id] = (struct order){.qty = qty, .prev = level->tail, .tick = tick, .side = (uint32_t)side, .id = name};
#ifdef ACCOUNTS
    join_account(book, id, account);
#endif
    if (level->tail) {
        book->orders[level->tail].next = id;
    } else {
        level->head = id;
        set_bit(book, side, tick);
        if (book->best[side] < 0 || (side == 0 ? (int64_t)tick > book->best[0] : (int64_t)tick < book->best[1]))
            book->best[side] = tick;
    }
    level->tail = id;
    (void)account;
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
            uint32_t slot = level->head;
            struct order *order = &book->orders[slot];
            uint64_t maker = order->id;
            int64_t lots = order->qty < qty ? order->qty : qty;
            book->trades++;
            book->hash = book->hash * HASH_FACTOR + maker * 31 + taker * 17 + (uint64_t)(best + base) * 7 + (uint64_t)lots;
            qty -= lots;
            order->qty -= lots;
#ifdef EVENTS
            say(book, 1, maker, best + base, lots, order->qty, qty);
#endif
            if (order->qty == 0) {
#ifdef IDS
                forget(book, maker, slot);
#endif
#ifdef ACCOUNTS
                leave_account(book, slot);
#endif
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

#ifdef SLOTS
#define NEXT(records, verdicts, k) &(records)[k].record, &(verdicts)[k]
#else
#define NEXT(records, verdicts, k) &(records)[k]
#endif

static void apply(struct book *book, int64_t base, const struct record *r
#ifdef SLOTS
                  ,
                  const struct verdict *verdict
#endif
)
{
    uint64_t name = r->id;
    int side = r->side;
#ifdef SLOTS
    if (verdict->code)
        return;
    uint32_t tick = (uint32_t)(verdict->price - base);
    int64_t qty = verdict->qty;
#else
    uint32_t tick = (uint32_t)(r->price - base);
    int64_t qty = r->qty;
#endif
#ifdef EVENTS
    book->seq++;
#endif
    uint32_t id = (uint32_t)name;
    if (r->type >= 2) {
#ifdef IDS
        id = slot_of(book, name);
#endif
        side = (int)book->orders[id].side;
        qty = book->orders[id].qty;
        take_off(book, id);
#ifdef ACCOUNTS
        leave_account(book, id);
#endif
#ifdef IDS
        forget(book, name, id);
#endif
#ifdef EVENTS
        say(book, r->type, name, r->price, qty, 0, 0);
#endif
        if (r->type == 2)
            return;
    }
    qty = match(book, name, side, tick, base, qty);
    if (qty && r->type != 1) {
#ifdef IDS
        id = new_slot(book, name);
#endif
        rest(book, id, name, r->uid, side, tick, qty);
#ifdef EVENTS
        say(book, 4, name, r->price, qty, qty, 0);
#endif
    }
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

#ifdef SLOTS
static void run(const struct header *header, const struct command *records, const struct verdict *verdicts)
#else
static void run(const struct header *header, const struct record *records)
#endif
{
    struct book book = {.best = {-1, -1}, .hash = HASH_START};
    for (int side = 0; side < 2; side++) {
        book.levels[side] = zeros(TICKS, sizeof(struct level));
        for (int depth = 0, words = TICKS / 64; depth < 3; depth++, words /= 64)
            book.bits[side][depth] = zeros((size_t)words, 8);
    }
    book.orders = zeros(header->max_id + 2, sizeof(struct order));
#ifdef IDS
    book.ids_mask = 63;
    while (book.ids_mask < 4 * header->prefill || book.ids_mask < 1 << 16)
        book.ids_mask = 2 * book.ids_mask + 1;
    book.ids = zeros(book.ids_mask + 1, 8);
    book.free = zeros(header->max_id + 2, 4);
#endif
#ifdef ACCOUNTS
    book.accounts = zeros(1 << 16, 4);
#endif
#ifdef EVENTS
    book.events = zeros(EVENTS_MAX, sizeof(struct event));
#endif
    for (uint64_t k = 0; k < header->prefill; k++)
        apply(&book, header->price_min, NEXT(records, verdicts, k));
    int64_t began = clock_ns(CLOCK_MONOTONIC), began_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t stretches = 0;
    int64_t *marks = zeros((header->total - header->prefill) / STRETCH + 2, sizeof(int64_t));
    for (uint64_t k = header->prefill; k < header->total; k++) {
        if ((k - header->prefill) % STRETCH == 0)
            marks[stretches++] = clock_ns(CLOCK_MONOTONIC);
        apply(&book, header->price_min, NEXT(records, verdicts, k));
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
#ifdef IDS
    free(book.ids);
    free(book.free);
#endif
#ifdef ACCOUNTS
    free(book.accounts);
#endif
#ifdef EVENTS
    free(book.events);
#endif
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
#ifdef SLOTS
    struct command *commands = zeros(header.total, sizeof(struct command));
    struct verdict *verdicts = zeros(header.total, sizeof(struct verdict));
    for (uint64_t k = 0; k < header.total; k++) {
        commands[k].record = records[k];
        verdicts[k] = (struct verdict){k + 1, 0, records[k].price, records[k].qty};
    }
    for (int k = 0; k < atoi(argv[2]); k++)
        run(&header, commands, verdicts);
    free(commands);
    free(verdicts);
#else
    for (int k = 0; k < atoi(argv[2]); k++)
        run(&header, records);
#endif
    free(records);
    fclose(file);
    return 0;
}
