/* A private view of the file system in which only the writable rules can be written to.
 *
 * root: a mount namespace. Anyone else: a user namespace in which the own ids mean themselves, and a mount namespace
 * in it. Each rule's path becomes a mount of its own (bound onto itself; of a hidden one an empty file system), then
 * every mount whose innermost rule is not a writable one is set read-only. Nothing that was read-only before is ever made writable. */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/mount.h> and <sys/mount.h> exclude each other in some libcs; the number is the same on all architectures. */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
struct mount_attributes {
    uint64_t set, clear, propagation, user_namespace;
};
static const uint64_t READ_ONLY = 1;

/* fork_apart has made the namespaces of a process that stands apart. */
static int enter_namespaces(const struct ids *ids, bool apart)
{
    if (!apart && unshare(ids->user == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return -1;
    return ids->user == 0 ? 0 : map_ids(ids);
}

static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    if (strcmp(folder, "/") == 0)
        return true;
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* Outer rules come first, so the last one that holds is the innermost. */
static bool is_writable(const char *path, const struct rule *rules, size_t count)
{
    bool writable = false;
    for (size_t i = 0; i < count; i++)
        if (is_below(path, rules[i].path))
            writable = rules[i].writable;
    return writable;
}

/* mountinfo writes blanks, tabs, line ends and backslashes as \ooo. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

static int set_read_only(const char *path)
{
    struct mount_attributes attributes = {.set = READ_ONLY};
    if (syscall(SYS_mount_setattr, AT_FDCWD, path, AT_NO_AUTOMOUNT, &attributes, sizeof attributes) == 0)
        return 0;
    /* Covered by another mount, or below a folder that is closed to us: the command cannot reach it either. */
    return errno == ENOENT || errno == EACCES || errno == EINVAL || errno == ENOTDIR ? 0 : -1;
}

static int set_all_read_only(const struct rule *rules, size_t count)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return -1;
    char *line = NULL;
    size_t room = 0;
    int result = 0;
    while (result == 0 && getline(&line, &room, file) > 0) {
        char *rest = line, *point = NULL;
        for (int field = 0; field < 5; field++)
            point = strsep(&rest, " ");
        if (point == NULL)
            continue;
        unescape(point);
        if (!is_writable(point, rules, count))
            result = set_read_only(point);
    }
    free(line);
    fclose(file);
    return result;
}

static int cover(const struct rule *rule)
{
    if (rule->hidden)
        return mount("none", rule->path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=0555");
    return mount(rule->path, rule->path, NULL, MS_BIND | MS_REC, NULL);
}

static bool is_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return false;
    int names = 0;
    while (readdir(folder) != NULL)
        names++;
    closedir(folder);
    return names == 2; /* itself and the one above */
}

/* Asks the kernel, rather than trusting the steps: the root and every read-only rule must be read-only now, and what is
 * hidden must be empty. */
static int check(const struct rule *rules, size_t count)
{
    struct statvfs answer;
    if (statvfs("/", &answer) != 0 || (answer.f_flag & ST_RDONLY) == 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (!rules[i].writable && (statvfs(rules[i].path, &answer) != 0 || (answer.f_flag & ST_RDONLY) == 0))
            return -1;
    for (size_t i = 0; i < count; i++)
        if (rules[i].hidden && !is_empty(rules[i].path))
            return -1;
    return 0;
}

/* What could undo the view: mounting, looking through another process's /proc/PID/root, raw devices, modules. */
static const int DROPPED[] = {CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RAWIO, CAP_SYS_MODULE, CAP_MKNOD, CAP_SYS_BOOT};

static int drop_capabilities(bool all)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &header, sets) != 0)
        return -1;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (size_t i = 0; i < sizeof DROPPED / sizeof *DROPPED; i++) {
        int capability = DROPPED[i];
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return -1;
        struct __user_cap_data_struct *set = &sets[capability / 32];
        uint32_t kept = ~(UINT32_C(1) << (capability % 32));
        set->effective &= kept;
        set->permitted &= kept;
        set->inheritable &= kept;
    }
    if (all)
        memset(sets, 0, sizeof sets);
    return (int)syscall(SYS_capset, &header, sets);
}

int isolate(const struct rule *rules, size_t count, const struct ids *ids, bool apart)
{
    bool ordinary = ids->user != 0;
    if (enter_namespaces(ids, apart) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (cover(&rules[i]) != 0)
            return -1;
    if (apart && mount_proc() != 0)
        return -1;
    if (count == 0)
        return ordinary ? drop_capabilities(true) : 0; /* a person's own program keeps what root may */
    if (set_all_read_only(rules, count) != 0 || check(rules, count) != 0)
        return -1;
    return drop_capabilities(ordinary);
}
