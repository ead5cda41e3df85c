/* cudabuild-supervisor: runs one command, and ends everything that the command ever started.
 *
 * It is a child subreaper: whatever is started below it, detached, with an emptied environment or in its own
 * session, stays its descendant, and "no child left" (ECHILD) is the kernel's own word that nothing remains.
 * A socket to the parent says when to end; the parent's death closes that socket and ends everything too.
 *
 * Linux only, no dependency beside libc. Functions that can fail return -1 and leave errno, unless they say otherwise. */
#ifndef CUDABUILD_SUPERVISOR_H
#define CUDABUILD_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One folder (or file) of the isolated file system and all below it, up to the next rule inside. */
struct rule {
    const char *path; /* absolute, links resolved, existing */
    bool writable;
};

struct options {
    int control;             /* socket to the parent */
    pid_t parent;            /* who started this program */
    const char *directory;   /* where the command runs */
    const char *scratch;     /* removed when the parent has died; NULL: none */
    bool use_cgroup;         /* try to make a cgroup v2 leaf for the command */
    const struct rule *rules; /* outer folders first; without a rule the file system is read-only */
    size_t rule_count;       /* 0: no isolation is wanted */
    char **command;          /* NULL-terminated */
};

/* A cgroup v2 folder that holds the command and what it starts. The path is empty when there is none. */
struct cgroup {
    char path[4096];
};

/* The command, and what is known of its end. */
struct command {
    pid_t pid;
    bool ended;
    int status; /* as waitpid gives it, once ended */
};

/* How the command was started. */
struct launch {
    struct command command;
    bool contained; /* it runs in the cgroup */
    bool isolated;  /* it sees a read-only file system */
    int error;      /* errno of what kept it from running, else 0 */
};

/* options.c: the command line; exits with status 2 when it makes no sense. */
struct options parse_options(int argc, char **argv);

/* cgroup.c */
bool cgroup_create(struct cgroup *group);       /* true when a leaf with cgroup.kill was made */
int cgroup_join(const struct cgroup *group);    /* moves the calling process into it */
void cgroup_kill(const struct cgroup *group);   /* SIGKILL to all in it, forks under way included */
void cgroup_remove(struct cgroup *group);       /* once it is empty */

/* isolate.c: a private mount namespace, read-only but for the writable rules. 0: complete. -1: not permitted
 * here or not complete, and this process must not run the command. */
int isolate(const struct rule *rules, size_t count);

/* launch.c: starts the command in its own session; retries without isolation where that is not permitted. */
struct launch launch(const struct options *options, const struct cgroup *group);

/* sweep.c */
bool reap(struct command *command); /* collects what has ended; true when no child is left, alive or dead */
int end_everything(struct command *command, const struct cgroup *group); /* survivors, 0 when all have ended */

/* scratch.c: remembers which folder is meant, and removes that one only; links are removed, never followed. */
struct scratch {
    const char *path;
    dev_t device;
    ino_t inode;
};
struct scratch scratch_remember(const char *path);
void scratch_remove(const struct scratch *scratch);

#endif
