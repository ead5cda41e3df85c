/* A cgroup v2 leaf below the one that this process is in. It limits nothing: it only makes cgroup.kill possible,
 * which ends a tree at once and cannot race with a fork. No other process is ever moved. */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Writes a word into a file of a cgroup. */
static int put(const struct cgroup *group, const char *file, const char *word)
{
    char path[sizeof group->path + 32];
    snprintf(path, sizeof path, "%s/%s", group->path, file);
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t written = write(descriptor, word, strlen(word));
    close(descriptor);
    return written < 0 ? -1 : 0;
}

/* This process's place in the v2 hierarchy ("0::/user.slice/..."), relative to the hierarchy's root. */
static bool own_place(char *place, size_t size)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return false;
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, file) > 0) {
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            found = (size_t)snprintf(place, size, "%s", line + 3) < size;
        }
    }
    free(line);
    fclose(file);
    return found;
}

/* Where the v2 hierarchy is mounted: alone at /sys/fs/cgroup, beside v1 at /sys/fs/cgroup/unified, or elsewhere.
 * Its root may be a part of the hierarchy (containers): then a place outside of it cannot be reached. */
static bool mounted_at(char *root, char *point, size_t size)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return false;
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, file) > 0) {
        char one[4096], two[4096];
        if (strstr(line, " - cgroup2 ") == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", one, two) != 2)
            continue;
        found = (size_t)snprintf(root, size, "%s", one) < size && (size_t)snprintf(point, size, "%s", two) < size;
    }
    free(line);
    fclose(file);
    return found;
}

/* The folder of the cgroup that this process is in. */
static bool own_folder(char *folder, size_t size)
{
    char place[2048], root[2048], point[2048];
    if (!own_place(place, sizeof place) || !mounted_at(root, point, sizeof root))
        return false;
    const char *below = place;
    if (strcmp(root, "/") != 0) {
        size_t length = strlen(root);
        if (strncmp(place, root, length) != 0 || (place[length] != '/' && place[length] != '\0'))
            return false;
        below = place + length;
    }
    if (strstr(below, "..") != NULL)
        return false;
    return (size_t)snprintf(folder, size, "%s%s", point, strcmp(below, "/") == 0 ? "" : below) < size;
}

/* Removes a cgroup and those that the command made below it. */
static void remove_below(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *below = NULL;
        if (asprintf(&below, "%s/%s", path, entry->d_name) >= 0) {
            remove_below(below);
            free(below);
        }
    }
    closedir(folder);
    rmdir(path);
}

void cgroup_kill(const struct cgroup *group)
{
    if (group->path[0] != '\0')
        put(group, "cgroup.kill", "1");
}

/* "cudabuild-", a number for the pid namespace, "-": a process number means nothing in another one. */
static void own_prefix(char *prefix, size_t size)
{
    struct stat namespace = {0};
    stat("/proc/self/ns/pid", &namespace);
    snprintf(prefix, size, "cudabuild-%lu-", (unsigned long)namespace.st_ino);
}

static bool is_supervisor(int pid)
{
    static const char NAME[] = "cudabuild-super"; /* the kernel keeps 15 letters */
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t size = read(descriptor, name, sizeof name - 1);
    close(descriptor);
    return size > 0 && strncmp(name, NAME, 15) == 0;
}

/* Ends what a supervisor that was killed together with its parent has left in its cgroup. */
static void end_stale(const char *folder, const char *prefix)
{
    DIR *entries = opendir(folder);
    if (entries == NULL)
        return;
    const struct timespec pause = {.tv_nsec = 2000 * 1000};
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct cgroup stale;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || is_supervisor(atoi(entry->d_name + strlen(prefix))) ||
            (size_t)snprintf(stale.path, sizeof stale.path, "%s/%s", folder, entry->d_name) >= sizeof stale.path)
            continue;
        for (int tries = 0; tries < 50 && access(stale.path, F_OK) == 0; tries++) {
            cgroup_kill(&stale);
            remove_below(stale.path);
            if (access(stale.path, F_OK) == 0)
                nanosleep(&pause, NULL);
        }
    }
    closedir(entries);
}

bool cgroup_create(struct cgroup *group)
{
    char folder[3800], prefix[64];
    group->path[0] = '\0';
    if (!own_folder(folder, sizeof folder)) {
        errno = ENOENT;
        return false;
    }
    own_prefix(prefix, sizeof prefix);
    end_stale(folder, prefix);
    snprintf(group->path, sizeof group->path, "%s/%s%d", folder, prefix, (int)getpid());
    if (mkdir(group->path, 0755) != 0) {
        group->path[0] = '\0';
        return false;
    }
    char path[sizeof group->path + 32];
    snprintf(path, sizeof path, "%s/cgroup.kill", group->path);
    if (access(path, W_OK) == 0)
        return true;
    cgroup_remove(group);
    return false;
}

int cgroup_join(const struct cgroup *group)
{
    return group->path[0] == '\0' ? -1 : put(group, "cgroup.procs", "0");
}

void cgroup_remove(struct cgroup *group)
{
    if (group->path[0] != '\0')
        remove_below(group->path);
    group->path[0] = '\0';
}
