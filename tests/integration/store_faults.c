/* Stands before the C library (LD_PRELOAD): from arm() on, the n-th call that changes the disk fails, or kills.
 *
 * Counted: write, fsync, rename, unlink, mkdir, and open where it creates. fault > 0 is the errno to fail with; -1 is
 * SIGKILL before the call; 0 only counts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int armed, calls, when, fault;

void arm(int n, int what) { armed = 1; calls = 0; when = n; fault = what; }
int disarm(void) { armed = 0; return calls; }

static int fails(void)
{
    if (!armed || ++calls != when || fault == 0) return 0;
    if (fault < 0) kill(getpid(), SIGKILL);
    errno = fault;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) { return fails() ? -1 : REAL(write)(fd, data, size); }
int fsync(int fd) { return fails() ? -1 : REAL(fsync)(fd); }
int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return fails() ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir)(path, mode); }

#define OPENS(name)                                        \
    int name(const char *path, int flags, ...)             \
    {                                                      \
        va_list rest;                                      \
        va_start(rest, flags);                             \
        mode_t mode = flags & O_CREAT ? va_arg(rest, int) : 0; \
        va_end(rest);                                      \
        if ((flags & O_CREAT) && fails()) return -1;       \
        return REAL(name)(path, flags, mode);              \
    }
OPENS(open)
OPENS(open64)
