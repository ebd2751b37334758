/* The limit for bench/ring.py: the same ring in C, between two processes on shared anonymous memory.

   Slots of 128 bytes; the writer fills all 16 words of a slot, the reader checks all of them; cursors are acquire/release atomics
   256 bytes apart, the writer caches the reader's cursor, both sides spin. Arguments: messages, publish every, capacity, cpu of
   the writer, cpu of the reader (-1: anywhere). Prints nanoseconds and broken slots. */

#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("yield")
#endif

#define WORDS 16
#define MIX 0x2545F4914F6CDD1DULL

struct header {
    _Alignas(256) _Atomic int64_t published;
    _Alignas(256) _Atomic int64_t cursor;
    _Alignas(256) _Atomic int64_t ready;
    int64_t broken;
};

static void pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void reader(struct header *header, const uint64_t *slots, int64_t messages, int64_t mask)
{
    int64_t cursor = 0, broken = 0;
    while (cursor < messages) {
        int64_t head = atomic_load_explicit(&header->published, memory_order_acquire);
        if (head == cursor) {
            PAUSE();
            continue;
        }
        for (; cursor < head; cursor++) {
            const uint64_t *slot = slots + (cursor & mask) * WORDS;
            uint64_t position = (uint64_t)cursor + 1, base = position * MIX, difference = slot[0] ^ position;
            for (int word = 1; word < WORDS; word++)
                difference |= slot[word] ^ (base + (uint64_t)word);
            broken += difference != 0;
        }
        atomic_store_explicit(&header->cursor, cursor, memory_order_release);
    }
    header->broken = broken;
}

static void writer(struct header *header, uint64_t *slots, int64_t messages, int64_t batch, int64_t mask)
{
    int64_t head = 0, least = 0, capacity = mask + 1;
    while (head < messages) {
        int64_t wanted = messages - head < batch ? messages - head : batch;
        if (capacity - (head - least) < wanted) {
            least = atomic_load_explicit(&header->cursor, memory_order_acquire);
            if (capacity - (head - least) < wanted) {
                PAUSE();
                continue;
            }
        }
        for (int64_t end = head + wanted; head < end; head++) {
            uint64_t *slot = slots + (head & mask) * WORDS;
            uint64_t position = (uint64_t)head + 1, base = position * MIX;
            slot[0] = position;
            for (int word = 1; word < WORDS; word++)
                slot[word] = base + (uint64_t)word;
        }
        atomic_store_explicit(&header->published, head, memory_order_release);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: ring_limit messages publish_every capacity writer_cpu reader_cpu\n");
        return 2;
    }
    int64_t messages = atoll(argv[1]), batch = atoll(argv[2]), capacity = atoll(argv[3]);
    size_t size = sizeof(struct header) + (size_t)capacity * WORDS * 8;
    struct header *header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (header == MAP_FAILED) {
        perror("ring_limit: mmap");
        return 1;
    }
    uint64_t *slots = (uint64_t *)(header + 1);
    pid_t child = fork();
    if (child < 0) {
        perror("ring_limit: fork");
        return 1;
    }
    if (child == 0) {
        pin(atoi(argv[5]));
        atomic_store(&header->ready, 1);
        reader(header, slots, messages, capacity - 1);
        _exit(0);
    }
    pin(atoi(argv[4]));
    while (!atomic_load(&header->ready))
        PAUSE();
    int64_t began = now_ns();
    writer(header, slots, messages, batch, capacity - 1);
    while (atomic_load_explicit(&header->cursor, memory_order_acquire) < messages)
        PAUSE();
    int64_t took = now_ns() - began;
    waitpid(child, NULL, 0);
    printf("%lld %lld\n", (long long)took, (long long)header->broken);
    return 0;
}
