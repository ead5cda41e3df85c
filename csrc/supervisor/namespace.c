/* A pid namespace: its processes cannot leave it, see no others, and end with its first one. Ordinary users get a user
 * namespace around it, in which the own ids mean themselves. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int put(const char *path, const char *text)
{
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t written = write(descriptor, text, strlen(text));
    close(descriptor);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

int map_ids(const struct ids *ids)
{
    char map[64];
    snprintf(map, sizeof map, "%u %u 1\n", (unsigned)ids->user, (unsigned)ids->user);
    if (put("/proc/self/uid_map", map) != 0 || put("/proc/self/setgroups", "deny") != 0)
        return -1;
    snprintf(map, sizeof map, "%u %u 1\n", (unsigned)ids->group, (unsigned)ids->group);
    return put("/proc/self/gid_map", map);
}

/* Containers hide parts of /proc under mounts and set others read-only. The kernel refuses an ordinary user a fresh
 * one there; root would get it, and with it what was hidden. Empty folders that hold other file systems hide nothing. */
bool proc_is_whole(void)
{
    static const char *const EMPTY[] = {"/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"};
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return false;
    char *line = NULL;
    size_t room = 0;
    bool whole = true;
    while (whole && getline(&line, &room, file) > 0) {
        char point[4096];
        if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || strncmp(point, "/proc/", 6) != 0)
            continue;
        whole = strcmp(point, EMPTY[0]) == 0 || strcmp(point, EMPTY[1]) == 0;
    }
    free(line);
    fclose(file);
    return whole;
}

int mount_proc(void)
{
    return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

pid_t fork_apart(const struct ids *ids)
{
    /* Not unshare and fork: that would leave this program itself in another user namespace. With no stack of its own
     * the child goes on as after a fork. */
    int flags = CLONE_NEWPID | CLONE_NEWNS | (ids->user == 0 ? 0 : CLONE_NEWUSER) | SIGCHLD;
    return (pid_t)syscall(SYS_clone, (unsigned long)flags, NULL, NULL, NULL, NULL);
}

int serve_as_init(pid_t command)
{
    for (int status;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid == command)
            return status;
        if (pid < 0 && errno != EINTR)
            return SIGKILL;
    }
}
