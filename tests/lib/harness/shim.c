/* Counts what a process and its children do to the files below one folder, and kills, fills or forbids at a given step.
 *
 * Preloaded before libc. A control file, mapped by every process that takes part, holds what is asked and what was seen;
 * AIFLOW_FAULT_CONTROL names it, or aiflow_fault_attach() does after a fork. See shim.py for its layout. Only calls through
 * libc's names are seen, syscall() among them; not stores into mapped files, io_uring, or stdio's own writes (fopen).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BEFORE, AFTER, TORN };

struct control {
    _Atomic int64_t steps;       /* taken so far, over all processes */
    int64_t kill_at;             /* 0: never */
    int64_t when;                /* BEFORE, AFTER, or TORN: half of what a write had to write */
    int64_t group;               /* kill the whole process group, else the process alone */
    _Atomic int64_t bytes_left;  /* until the disk is full; -1: it never is */
    int64_t denied;              /* errno of every change; 0: none */
    int64_t clock_seconds;       /* added to the clock of the day */
    int64_t reads;               /* trace reads too, as step 0 */
    _Atomic int64_t trace_bytes;
    int64_t size;                /* of the whole file */
    char root[4096];
    char trace[];
};

static struct control *control;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void aiflow_fault_attach(const char *path) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    struct stat found;
    if (fd < 0) return;
    if (!fstat(fd, &found)) {
        void *mapped = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) control = mapped;
    }
    syscall(SYS_close, fd);
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("AIFLOW_FAULT_CONTROL");
    if (path && *path) aiflow_fault_attach(path);
}

static int is_below(const char *path) {
    size_t length = strlen(control->root);
    return length && !strncmp(path, control->root, length) && (path[length] == '/' || !path[length]);
}

/* The path of an open file, if it lies below the root. */
static int fd_below(int fd, char *path) {
    char link[40];
    if (!control || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* The path that a call names, links of its folder resolved, if it lies below the root. */
static int name_below(int folder, const char *name, char *path) {
    char full[2 * PATH_MAX];
    if (!control || !name || !*name || strlen(name) >= PATH_MAX) return 0;
    if (*name == '/') {
        strcpy(full, name);
    } else {
        char link[40];
        if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
        if (length <= 0) return 0;
        full[length] = '/';
        strcpy(full + length + 1, name);
    }
    size_t end = strlen(full);
    while (end > 1 && full[end - 1] == '/') full[--end] = 0;
    char *slash = strrchr(full, '/');
    char parent[PATH_MAX];
    if (slash && slash != full) {
        *slash = 0;
        const char *resolved = realpath(full, parent) ? parent : full;
        snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - 260, resolved, slash + 1);
    } else {
        snprintf(path, PATH_MAX, "%.*s", PATH_MAX - 1, full);
    }
    return is_below(path);
}

static void die(void) {
    syscall(SYS_kill, control->group ? 0 : getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a step and write it down. */
static int64_t note(int counted, const char *call, const char *path, int64_t bytes) {
    char line[PATH_MAX + 100];
    int64_t step = counted ? atomic_fetch_add(&control->steps, 1) + 1 : 0;
    int length = snprintf(line, sizeof line, "%lld\t%s\t%lld\t%s\n", (long long)step, call, (long long)bytes, path);
    int64_t at = atomic_fetch_add(&control->trace_bytes, length);
    if (at + length < control->size - (int64_t)sizeof *control) {
        for (int i = 0; i < length - 1; i++) if (line[i] == '\n') line[i] = '?';
        memcpy(control->trace + at, line, (size_t)length);
    }
    return step;
}

/* One change: forbidden, or a step that may be the last. */
#define STEP(below, call, path, bytes, act) do { \
    if (below) { \
        if (control->denied) { errno = (int)control->denied; return -1; } \
        int64_t step = note(1, call, path, bytes); \
        if (step == control->kill_at && control->when != AFTER) die(); \
        __typeof__(act) done = act; \
        if (step == control->kill_at) die(); \
        return done; \
    } \
    return act; \
} while (0)

/* One write of at most `wanted` bytes at once: torn, cut short by a full disk, or whole. `some` writes the first `allowed`. */
#define WRITE(below, call, path, wanted, some) do { \
    size_t allowed = (wanted); \
    if (below) { \
        if (control->denied) { errno = (int)control->denied; return -1; } \
        int64_t step = note(1, call, path, (int64_t)allowed); \
        if (step == control->kill_at && control->when == BEFORE) die(); \
        if (step == control->kill_at && control->when == TORN) allowed /= 2; \
        int64_t left = atomic_load(&control->bytes_left); \
        if (left >= 0 && allowed) { \
            if ((int64_t)allowed > left) allowed = (size_t)left; \
            if (!allowed) { errno = ENOSPC; return -1; } \
            atomic_fetch_sub(&control->bytes_left, (int64_t)allowed); \
        } \
        ssize_t done = allowed || !(wanted) ? (some) : 0; \
        if (step == control->kill_at) die(); \
        return done; \
    } \
    return (some); \
} while (0)

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC | __O_TMPFILE); }

#define OPEN(name, parameters, folder, call_with_mode) \
    int name parameters { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        } \
        char path[PATH_MAX]; \
        int below = changes(flags) && name_below(folder, file, path); \
        if (!below && control && control->reads && !changes(flags) && name_below(folder, file, path)) note(0, "open_to_read", path, 0); \
        STEP(below, "open", path, 0, call_with_mode); \
    }
OPEN(open, (const char *file, int flags, ...), AT_FDCWD, real(file, flags, mode))
OPEN(open64, (const char *file, int flags, ...), AT_FDCWD, real(file, flags, mode))
OPEN(openat, (int folder, const char *file, int flags, ...), folder, real(folder, file, flags, mode))
OPEN(openat64, (int folder, const char *file, int flags, ...), folder, real(folder, file, flags, mode))

#define FOPEN(name) \
    FILE *name(const char *file, const char *mode) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (strpbrk(mode, "wa+") && name_below(AT_FDCWD, file, path)) { \
            if (control->denied) { errno = (int)control->denied; return NULL; } \
            int64_t step = note(1, "fopen", path, 0); \
            if (step == control->kill_at && control->when != AFTER) die(); \
            FILE *done = real(file, mode); \
            if (step == control->kill_at) die(); \
            return done; \
        } \
        return real(file, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

int creat(const char *file, mode_t mode) { return open(file, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *file, mode_t mode) { return open64(file, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int fd, const void *content, size_t size) {
    REAL(write);
    char path[PATH_MAX];
    WRITE(fd_below(fd, path), "write", path, size, real(fd, content, allowed));
}
#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *content, size_t size, offset_type offset) { \
        REAL(name); \
        char path[PATH_MAX]; \
        WRITE(fd_below(fd, path), "write", path, size, real(fd, content, allowed, offset)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}
/* As many whole parts as are allowed, or of the first one a part. */
static int cut(const struct iovec *parts, int count, size_t allowed, struct iovec *first) {
    int whole = 0;
    *first = parts[0];
    for (size_t sum = 0; whole < count && sum + parts[whole].iov_len <= allowed; whole++) sum += parts[whole].iov_len;
    if (!whole && first->iov_len > allowed) first->iov_len = allowed;
    return whole;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    char path[PATH_MAX];
    struct iovec first;
    int whole;
    if (count < 1 || !fd_below(fd, path)) return real(fd, parts, count);
    WRITE(1, "write", path, total(parts, count), (whole = cut(parts, count, allowed, &first)) ? real(fd, parts, whole) : real(fd, &first, 1));
}
#define PWRITEV(name, offset_type) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type offset) { \
        REAL(name); \
        char path[PATH_MAX]; \
        struct iovec first; \
        int whole; \
        if (count < 1 || !fd_below(fd, path)) return real(fd, parts, count, offset); \
        WRITE(1, "write", path, total(parts, count), \
              (whole = cut(parts, count, allowed, &first)) ? real(fd, parts, whole, offset) : real(fd, &first, 1, offset)); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags) {
    REAL(copy_file_range);
    char path[PATH_MAX];
    WRITE(fd_below(to, path), "copy", path, size, real(from, from_offset, to, to_offset, allowed, flags));
}
#define SENDFILE(name, offset_type) \
    ssize_t name(int to, int from, offset_type *offset, size_t size) { \
        REAL(name); \
        char path[PATH_MAX]; \
        WRITE(fd_below(to, path), "copy", path, size, real(to, from, offset, allowed)); \
    }
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile64(int, int, off64_t *, size_t);
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define ON_FD(name, parameters, call, act) \
    int name parameters { REAL(name); char path[PATH_MAX]; STEP(fd_below(fd, path), call, path, 0, act); }
ON_FD(fsync, (int fd), "fsync", real(fd))
ON_FD(fdatasync, (int fd), "fsync", real(fd))
ON_FD(ftruncate, (int fd, off_t size), "truncate", real(fd, size))
ON_FD(ftruncate64, (int fd, off64_t size), "truncate", real(fd, size))
ON_FD(fallocate, (int fd, int mode, off_t offset, off_t size), "allocate", real(fd, mode, offset, size))
ON_FD(fallocate64, (int fd, int mode, off64_t offset, off64_t size), "allocate", real(fd, mode, offset, size))

int close(int fd) {
    REAL(close);
    char path[PATH_MAX];
    int below = fd_below(fd, path) && changes((int)syscall(SYS_fcntl, fd, F_GETFL) & ~(O_CREAT | O_TRUNC | __O_TMPFILE));
    if (!below || control->denied) return real(fd);
    STEP(1, "close", path, 0, real(fd));
}

#define ON_NAME(name, parameters, folder, call, act) \
    int name parameters { REAL(name); char path[PATH_MAX]; STEP(name_below(folder, file, path), call, path, 0, act); }
ON_NAME(unlink, (const char *file), AT_FDCWD, "unlink", real(file))
ON_NAME(unlinkat, (int folder, const char *file, int flags), folder, "unlink", real(folder, file, flags))
ON_NAME(remove, (const char *file), AT_FDCWD, "unlink", real(file))
ON_NAME(rmdir, (const char *file), AT_FDCWD, "rmdir", real(file))
ON_NAME(mkdir, (const char *file, mode_t mode), AT_FDCWD, "mkdir", real(file, mode))
ON_NAME(mkdirat, (int folder, const char *file, mode_t mode), folder, "mkdir", real(folder, file, mode))
ON_NAME(truncate, (const char *file, off_t size), AT_FDCWD, "truncate", real(file, size))
ON_NAME(truncate64, (const char *file, off64_t size), AT_FDCWD, "truncate", real(file, size))
ON_NAME(symlink, (const char *target, const char *file), AT_FDCWD, "link", real(target, file))
ON_NAME(symlinkat, (const char *target, int folder, const char *file), folder, "link", real(target, folder, file))

/* Two names: the new one is written down, or the old one where only that lies below the root. */
#define ON_NAMES(name, parameters, from, to, call, act) \
    int name parameters { \
        REAL(name); \
        char path[PATH_MAX]; \
        STEP(name_below(to, new, path) || name_below(from, old, path), call, path, 0, act); \
    }
ON_NAMES(rename, (const char *old, const char *new), AT_FDCWD, AT_FDCWD, "rename", real(old, new))
ON_NAMES(renameat, (int from, const char *old, int to, const char *new), from, to, "rename", real(from, old, to, new))
ON_NAMES(renameat2, (int from, const char *old, int to, const char *new, unsigned flags), from, to, "rename", real(from, old, to, new, flags))
ON_NAMES(link, (const char *old, const char *new), AT_FDCWD, AT_FDCWD, "link", real(old, new))
ON_NAMES(linkat, (int from, const char *old, int to, const char *new, int flags), from, to, "link", real(from, old, to, new, flags))

#define READ(name, parameters, act) \
    ssize_t name parameters { \
        REAL(name); \
        ssize_t done = act; \
        char path[PATH_MAX]; \
        int before = errno; \
        if (control && control->reads && done > 0 && fd_below(fd, path)) note(0, "read", path, done); \
        errno = before; \
        return done; \
    }
READ(read, (int fd, void *content, size_t size), real(fd, content, size))
READ(pread, (int fd, void *content, size_t size, off_t offset), real(fd, content, size, offset))
READ(pread64, (int fd, void *content, size_t size, off64_t offset), real(fd, content, size, offset))
READ(readv, (int fd, const struct iovec *parts, int count), real(fd, parts, count))
READ(preadv, (int fd, const struct iovec *parts, int count, off_t offset), real(fd, parts, count, offset))

#define MMAP(name, offset_type) \
    void *name(void *at, size_t size, int protection, int flags, int fd, offset_type offset) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (control && control->reads && !(flags & MAP_ANONYMOUS) && fd_below(fd, path)) note(0, "map", path, (int64_t)size); \
        return real(at, size, protection, flags, fd, offset); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

/* Some go past libc's names: Rust's std for what an old libc might lack. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_list rest;
    va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
    long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    if (control) {
        switch (number) {
        case SYS_copy_file_range: return copy_file_range((int)a, (off64_t *)b, (int)c, (off64_t *)d, (size_t)e, (unsigned)f);
        case SYS_renameat2: return renameat2((int)a, (const char *)b, (int)c, (const char *)d, (unsigned)e);
        }
    }
    return real(number, a, b, c, d, e, f);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int done = real(clock, now);
    if (!done && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_seconds;
    return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int done = real(now, zone);
    if (!done && control) now->tv_sec += control->clock_seconds;
    return done;
}
time_t time(time_t *now) {
    REAL(time);
    time_t found = real(NULL) + (control ? control->clock_seconds : 0);
    if (now) *now = found;
    return found;
}
