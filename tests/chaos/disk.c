/* A worse machine, for processes that are started with this library preloaded (see tests.chaos.machine).
 *
 * Files below $CHAOS_HOME fail, fill the disk or become slow on command of the words in $CHAOS_WORDS, a mapped file; UTC moves by
 * one of them. With RECORD set, every change of a file or a name is appended to $CHAOS_LOG before it is made, with what was there
 * before, and every sync behind it: from that tests.chaos.power makes what a power loss may leave. What is failed is not done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Words. */
enum { FAULT, SCOPE, LEFT, DELAY_US, UTC_NS, RECORD, FIRED, CLOCK_READ, GRAVES, N_WORDS };
enum { NONE, SYNC_FAILS, NO_SPACE, READ_ONLY, SLOW };
/* Scopes: a bit for each part of the home. */
enum { JOURNAL = 1, SNAPSHOTS = 2, AUDIT = 4, POSTGRES = 8, LOG = 16, RUN = 32, REST = 64 };
/* Kinds of log entries. */
enum { WRITE = 1, SYNCED, SYNC_FAILED, CREATE, RENAME, UNLINK, LINK, FOLDER_SYNCED, RESIZE };

struct entry {
    int64_t bytes, kind, inode, offset, new_bytes, old_bytes, old_size, new_size, upto, path_bytes, other_bytes;
};

static volatile int64_t *words;
static char home[PATH_MAX];
static size_t home_bytes;
static char log_path[PATH_MAX], graves[PATH_MAX];

__attribute__((constructor)) static void attach(void) {
    const char *folder = getenv("CHAOS_HOME"), *control = getenv("CHAOS_WORDS"), *log = getenv("CHAOS_LOG");
    if (!folder || !control || !log || strlen(folder) >= PATH_MAX || strlen(log) >= PATH_MAX - 32) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    strcpy(home, folder);
    home_bytes = strlen(home);
    strcpy(log_path, log);
    snprintf(graves, sizeof graves, "%s.graves", log);
    words = map;
}

/* ---- where ------------------------------------------------------------------------------------------------------ */

static int scope_of(const char *path) {
    if (strncmp(path, home, home_bytes) || path[home_bytes] != '/') return 0;
    static const struct { const char *name; int scope; } parts[] = {
        {"journal/", JOURNAL}, {"snapshots/", SNAPSHOTS}, {"audit/", AUDIT}, {"log/", LOG}, {"run/", RUN},
        {"postgres/", POSTGRES}, {".postgres", POSTGRES},
    };
    const char *part = path + home_bytes + 1;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
        if (!strncmp(part, parts[k].name, strlen(parts[k].name))) return parts[k].scope;
    return REST;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0 && path[0] == '/';
}

static int whole_path(int folder, const char *path, char *whole) {
    if (path[0] == '/') return snprintf(whole, PATH_MAX, "%s", path) < PATH_MAX;
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, PATH_MAX) < 0) return 0;
    } else if (!path_of(folder, base)) return 0;
    return snprintf(whole, PATH_MAX, "%.2000s/%.2000s", base, path) < PATH_MAX;
}

static int fires(int fault, int scope) {
    if (!words || words[FAULT] != fault || !(words[SCOPE] & scope)) return 0;
    if (words[LEFT] >= 0 && __atomic_fetch_sub(&words[LEFT], 1, __ATOMIC_SEQ_CST) <= 0) {
        words[LEFT] = 0;
        return 0;
    }
    __atomic_fetch_add(&words[FIRED], 1, __ATOMIC_SEQ_CST);
    return 1;
}

static void dawdle(int scope) {
    if (fires(SLOW, scope)) {
        struct timespec pause = {words[DELAY_US] / 1000000, words[DELAY_US] % 1000000 * 1000};
        syscall(SYS_nanosleep, &pause, NULL);
    }
}

/* ---- the record ------------------------------------------------------------------------------------------------- */

static int recorded(int scope) { return words && words[RECORD] && scope && !(scope & (POSTGRES | LOG)); }

static int64_t log_bytes(void) {
    struct stat s;
    return syscall(SYS_newfstatat, AT_FDCWD, log_path, &s, 0) ? 0 : s.st_size;
}

/* One write, so that entries of several processes do not mix. */
static void note(struct entry e, const char *path, const char *other, const void *before, const void *after) {
    int saved = errno;
    e.path_bytes = path ? (int64_t)strlen(path) : 0;
    e.other_bytes = other ? (int64_t)strlen(other) : 0;
    if (!before) e.old_bytes = 0;
    if (!after) e.new_bytes = 0;
    e.bytes = (int64_t)sizeof e + e.path_bytes + e.other_bytes + e.old_bytes + e.new_bytes;
    struct iovec parts[] = {{&e, sizeof e}, {(void *)path, e.path_bytes}, {(void *)other, e.other_bytes},
                            {(void *)before, e.old_bytes}, {(void *)after, e.new_bytes}};
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) {
        syscall(SYS_writev, fd, parts, 5);
        syscall(SYS_close, fd);
    }
    errno = saved;
}

static void note_data(int fd, const char *path, int64_t offset, const void *data, int64_t count, int64_t new_size) {
    struct stat s;
    if (syscall(SYS_fstat, fd, &s) || !S_ISREG(s.st_mode)) return;
    int64_t end = data ? offset + count : s.st_size;
    int64_t old = end < s.st_size ? end - offset : s.st_size - offset;
    if (old < 0) old = 0;
    struct entry e = {.kind = data ? WRITE : RESIZE, .inode = s.st_ino, .offset = offset, .new_bytes = count,
                      .old_size = s.st_size, .new_size = data ? (end > s.st_size ? end : s.st_size) : new_size};
    char *before = old ? malloc(old) : NULL;
    int64_t done = 0;
    /* A file that is open for writing only is read by its path. */
    int reading = old ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    while (before && reading >= 0 && done < old) {
        int64_t got = syscall(SYS_pread64, reading, before + done, old - done, offset + done);
        if (got <= 0) break;
        done += got;
    }
    if (reading >= 0) syscall(SYS_close, reading);
    e.old_bytes = done;
    note(e, path, NULL, before, data);
    free(before);
}

static void note_name(int kind, const char *path, const char *other, const char *lost) {
    struct stat s;
    struct entry e = {.kind = kind};
    /* What a name stood for that is taken away stays under another one, outside of the home. */
    if (lost && !syscall(SYS_newfstatat, AT_FDCWD, lost, &s, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(s.st_mode)) {
        char grave[PATH_MAX];
        e.upto = __atomic_add_fetch(&words[GRAVES], 1, __ATOMIC_SEQ_CST);
        snprintf(grave, sizeof grave, "%.3000s/%lld", graves, (long long)e.upto);
        if (syscall(SYS_linkat, AT_FDCWD, lost, AT_FDCWD, grave, 0)) e.upto = 0;
    }
    note(e, path, other, NULL, NULL);
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

/* 0, or the errno with which a change of ``count`` bytes fails; it is recorded where it does not. */
static int change(int fd, const struct iovec *parts, int n, int64_t offset) {
    char path[PATH_MAX];
    int scope;
    if (!words || !(words[FAULT] || words[RECORD]) || !path_of(fd, path) || !(scope = scope_of(path))) return 0;
    struct stat s;
    if (syscall(SYS_fstat, fd, &s) || !S_ISREG(s.st_mode)) return 0;
    int64_t count = 0;
    for (int k = 0; k < n; k++) count += parts[k].iov_len;
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    if (offset < 0) offset = flags & O_APPEND ? s.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    dawdle(scope);
    if (fires(READ_ONLY, scope)) return EROFS;
    if (offset + count > s.st_size && fires(NO_SPACE, scope)) return ENOSPC;
    if (!recorded(scope)) return 0;
    for (int k = 0; k < n; k++) {
        note_data(fd, path, offset, parts[k].iov_base, parts[k].iov_len, 0);
        offset += parts[k].iov_len;
    }
    if (flags & O_DSYNC) note((struct entry){.kind = SYNCED, .inode = s.st_ino, .upto = log_bytes()}, path, NULL, NULL, NULL);
    return 0;
}

static int resize(int fd, int64_t size, int grows) {
    char path[PATH_MAX];
    int scope;
    if (!words || !(words[FAULT] || words[RECORD]) || !path_of(fd, path) || !(scope = scope_of(path))) return 0;
    struct stat s;
    if (syscall(SYS_fstat, fd, &s)) return 0;
    dawdle(scope);
    if (fires(READ_ONLY, scope)) return EROFS;
    if (size > s.st_size && fires(NO_SPACE, scope)) return ENOSPC;
    if (recorded(scope) && !(grows && size <= s.st_size))
        note_data(fd, path, size < s.st_size ? size : s.st_size, NULL, 0, size);
    return 0;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_WITH(number, result) \
    do { int failed = (number); if (failed) { errno = failed; return result; } } while (0)

ssize_t write(int fd, const void *data, size_t count) {
    REAL(write);
    struct iovec part = {(void *)data, count};
    FAIL_WITH(change(fd, &part, 1, -1), -1);
    return real(fd, data, count);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    FAIL_WITH(change(fd, parts, n, -1), -1);
    return real(fd, parts, n);
}
#define PWRITE(name, type) \
    ssize_t name(int fd, const void *data, size_t count, type offset) { \
        REAL(name); \
        struct iovec part = {(void *)data, count}; \
        FAIL_WITH(change(fd, &part, 1, offset), -1); \
        return real(fd, data, count, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
#define PWRITEV(name, type) \
    ssize_t name(int fd, const struct iovec *parts, int n, type offset) { \
        REAL(name); \
        FAIL_WITH(change(fd, parts, n, offset), -1); \
        return real(fd, parts, n, offset); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)
#define RESIZER(name, type, failure) \
    int name(int fd, type size) { \
        REAL(name); \
        FAIL_WITH(resize(fd, size, 0), failure); \
        return real(fd, size); \
    }
RESIZER(ftruncate, off_t, -1)
RESIZER(ftruncate64, off64_t, -1)
#define FALLOCATE(name, type) \
    int name(int fd, type offset, type count) { \
        REAL(name); \
        int failed = resize(fd, offset + count, 1); \
        return failed ? failed : real(fd, offset, count); \
    }
FALLOCATE(posix_fallocate, off_t)
FALLOCATE(posix_fallocate64, off64_t)

static int synced(int fd, int (*sync)(int)) {
    char path[PATH_MAX];
    int scope;
    if (!words || !(words[FAULT] || words[RECORD]) || !path_of(fd, path)) return sync(fd);
    struct stat s;
    /* The home itself is a folder of the home. */
    scope = strcmp(path, home) ? scope_of(path) : REST;
    char inside[PATH_MAX + 1];
    if (!syscall(SYS_fstat, fd, &s) && S_ISDIR(s.st_mode)) {
        snprintf(inside, sizeof inside, "%s/", path);
        scope = strcmp(path, home) ? scope_of(inside) : REST;
    }
    if (!scope) return sync(fd);
    int64_t upto = log_bytes();
    int folder = S_ISDIR(s.st_mode);
    dawdle(scope);
    int failed = fires(SYNC_FAILS, scope) ? EIO : fires(READ_ONLY, scope) ? EROFS : 0;
    int result = failed ? -1 : sync(fd);
    if (recorded(scope) && !(folder && failed)) {
        struct entry e = {.kind = folder ? FOLDER_SYNCED : failed ? SYNC_FAILED : SYNCED, .inode = s.st_ino, .upto = upto};
        note(e, path, NULL, NULL, NULL);
    }
    if (failed) errno = failed;
    return result;
}
int fsync(int fd) { REAL(fsync); return synced(fd, real); }
int fdatasync(int fd) { REAL(fdatasync); return synced(fd, real); }

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int opening(int folder, const char *path, int flags, char *whole) {
    *whole = 0;
    if (!words || !(words[FAULT] || words[RECORD]) || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))) return 0;
    int scope = whole_path(folder, path, whole) ? scope_of(whole) : 0;
    struct stat s;
    int there = scope && !syscall(SYS_newfstatat, AT_FDCWD, whole, &s, 0);
    if (there && !S_ISREG(s.st_mode)) scope = 0;
    if (scope && fires(READ_ONLY, scope)) return EROFS;
    if (!recorded(scope) || (there && !(flags & O_TRUNC && s.st_size))) {
        *whole = 0;
        return 0;
    }
    if (there) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, whole, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            note_data(fd, whole, 0, NULL, 0, 0);
            syscall(SYS_close, fd);
        }
        *whole = 0;
    } else if (!(flags & O_CREAT)) *whole = 0;
    return 0;
}
static int opened(int fd, const char *whole) {
    if (fd >= 0 && *whole) note_name(CREATE, whole, NULL, NULL);
    return fd;
}
#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        MODE_OF(flags) \
        char whole[PATH_MAX]; \
        FAIL_WITH(opening(AT_FDCWD, path, flags, whole), -1); \
        return opened(real(path, flags, mode), whole); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        MODE_OF(flags) \
        char whole[PATH_MAX]; \
        FAIL_WITH(opening(folder, path, flags, whole), -1); \
        return opened(real(folder, path, flags, mode), whole); \
    }
OPENAT(openat)
OPENAT(openat64)

static int naming(int kind, int folder, const char *path, int other_folder, const char *other) {
    char one[PATH_MAX], two[PATH_MAX];
    if (!words || !(words[FAULT] || words[RECORD]) || !whole_path(folder, path, one)) return 0;
    if (other && !whole_path(other_folder, other, two)) return 0;
    int scope = scope_of(one);
    if (other && !scope) scope = scope_of(two);
    if (scope && fires(READ_ONLY, scope)) return EROFS;
    struct stat s;
    if (recorded(scope) && !syscall(SYS_newfstatat, AT_FDCWD, one, &s, AT_SYMLINK_NOFOLLOW) && !S_ISSOCK(s.st_mode))
        note_name(kind, one, other ? two : NULL, kind == RENAME ? two : kind == UNLINK ? one : NULL);
    return 0;
}
int rename(const char *old, const char *new) {
    REAL(rename);
    FAIL_WITH(naming(RENAME, AT_FDCWD, old, AT_FDCWD, new), -1);
    return real(old, new);
}
int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    REAL(renameat);
    FAIL_WITH(naming(RENAME, old_folder, old, new_folder, new), -1);
    return real(old_folder, old, new_folder, new);
}
int unlink(const char *path) {
    REAL(unlink);
    FAIL_WITH(naming(UNLINK, AT_FDCWD, path, 0, NULL), -1);
    return real(path);
}
int link(const char *old, const char *new) {
    REAL(link);
    FAIL_WITH(naming(LINK, AT_FDCWD, old, AT_FDCWD, new), -1);
    return real(old, new);
}

/* ---- UTC -------------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && words && words[UTC_NS]) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + words[UTC_NS];
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
        __atomic_fetch_add(&words[CLOCK_READ], 1, __ATOMIC_RELAXED);
    }
    return result;
}
