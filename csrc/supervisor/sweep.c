/* Ending a tree of processes without racing with its forks.
 *
 * The loop ends only when waitpid says ECHILD. A process is signalled either while it is an unreaped child of this
 * one (its number cannot be given to another), or through a pidfd whose start time was checked after opening. */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static const double PATIENCE = 10.0;   /* seconds until what does not end is reported as surviving */
static const int QUICK_ROUNDS = 100;   /* looks at the own children between two scans of all processes */
static const long PAUSE = 1000 * 1000; /* nanoseconds between two scans */

struct process {
    pid_t pid, parent;
    unsigned long long start; /* clock ticks since boot: with the pid it names a process for good */
    bool zombie, below;
};

struct table {
    struct process *entries;
    size_t count, room;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static ssize_t read_file(const char *path, char *text, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t length = read(descriptor, text, size - 1);
    close(descriptor);
    if (length >= 0)
        text[length] = '\0';
    return length;
}

static bool read_process(pid_t pid, struct process *process)
{
    char path[64], text[1024], state = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return false;
    const char *rest = strrchr(text, ')'); /* the name may hold anything, blanks and brackets too */
    int parent = 0;
    *process = (struct process){.pid = pid};
    if (rest == NULL || sscanf(rest + 1,
                               " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                               &state, &parent, &process->start) != 3)
        return false;
    process->parent = parent;
    process->zombie = state == 'Z' || state == 'X';
    return true;
}

static void add(struct table *table, const struct process *process)
{
    if (table->count == table->room) {
        size_t room = table->room == 0 ? 1024 : 2 * table->room;
        struct process *entries = realloc(table->entries, room * sizeof *entries);
        if (entries == NULL)
            return; /* the next round sees fewer processes */
        table->entries = entries;
        table->room = room;
    }
    table->entries[table->count++] = *process;
}

static void scan(struct table *table)
{
    table->count = 0;
    DIR *folder = opendir("/proc");
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        struct process process;
        if (pid > 0 && *end == '\0' && read_process((pid_t)pid, &process))
            add(table, &process);
    }
    closedir(folder);
}

static int by_pid(const void *one, const void *two)
{
    pid_t first = ((const struct process *)one)->pid, second = ((const struct process *)two)->pid;
    return (first > second) - (first < second);
}

/* Marks what descends from this process. */
static void mark(struct table *table)
{
    pid_t self = getpid();
    qsort(table->entries, table->count, sizeof *table->entries, by_pid);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < table->count; i++) {
            struct process *process = &table->entries[i], key = {.pid = process->parent};
            if (process->below)
                continue;
            const struct process *parent = bsearch(&key, table->entries, table->count, sizeof key, by_pid);
            if (process->parent == self || (parent != NULL && parent->below))
                process->below = changed = true;
        }
    }
}

static void kill_exactly(const struct process *process)
{
    int descriptor = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (descriptor >= 0) {
        struct process same;
        if (read_process(process->pid, &same) && same.start == process->start)
            syscall(SYS_pidfd_send_signal, descriptor, SIGKILL, NULL, 0);
        close(descriptor);
    } else if (process->parent == getpid()) {
        kill(process->pid, SIGKILL);
    }
}

/* SIGKILL to all descendants that a scan finds; how many there were. */
static int kill_tree(struct table *table)
{
    int alive = 0;
    scan(table);
    mark(table);
    for (size_t i = 0; i < table->count; i++) {
        if (table->entries[i].below && !table->entries[i].zombie) {
            alive++;
            kill_exactly(&table->entries[i]);
        }
    }
    return alive;
}

/* SIGKILL to the own children, at once: catches chains in which each process forks the next and ends. */
static bool kill_children(void)
{
    static char text[1 << 16];
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    if (read_file(path, text, sizeof text) <= 0)
        return false;
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL && rest != NULL;)
        kill((pid_t)atoi(word), SIGKILL);
    return true;
}

/* The first process of a namespace tells how the command ended; nothing when it was killed itself. */
static int status_of(struct command *command, int status)
{
    int told;
    if (command->report <= 0)
        return status;
    return read(command->report, &told, sizeof told) == (ssize_t)sizeof told ? told : SIGKILL;
}

bool reap(struct command *command)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid < 0 && errno == ECHILD)
            return true;
        if (pid <= 0)
            return false;
        if (pid == command->pid && !command->ended) {
            command->ended = true;
            command->status = status_of(command, status);
        }
    }
}

int end_everything(struct command *command, const struct cgroup *group)
{
    struct table table = {0};
    const struct timespec pause = {.tv_nsec = PAUSE};
    double deadline = now() + PATIENCE;
    int survivors = 0;
    for (bool empty = reap(command); !empty;) {
        cgroup_kill(group);
        survivors = kill_tree(&table);
        empty = reap(command);
        for (int i = 0; !empty && i < QUICK_ROUNDS && kill_children(); i++)
            empty = reap(command);
        if (empty)
            survivors = 0;
        else if (now() > deadline)
            break;
        else
            nanosleep(&pause, NULL);
    }
    free(table.entries);
    return survivors;
}
