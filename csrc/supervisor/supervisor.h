/* cudabuild-supervisor: runs one command, and ends everything that the command ever started.
 *
 * It is a child subreaper: whatever is started below it, detached, with an emptied environment or in its own
 * session, stays its descendant, and "no child left" (ECHILD) is the kernel's own word that nothing remains.
 * A socket to the parent says when to end; the parent's death closes that socket and ends everything too.
 *
 * Where the kernel permits it the command runs in a cgroup of its own, and in a pid namespace of its own. The first
 * process of that namespace is this program's child and dies with it (PR_SET_PDEATHSIG), and the kernel then ends the
 * namespace: so nothing is left when this program is killed, either.
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
    bool hidden; /* a folder: an empty one lies over it */
};

/* Which containment is wanted. ANY: the best there is. Any other: that one, or the command is not run. */
enum tier { ANY, CGROUP, NAMESPACE, SUBREAPER };

struct options {
    int control;             /* socket to the parent */
    pid_t parent;            /* who started this program */
    const char *directory;   /* where the command runs */
    const char *scratch;     /* removed when the parent has died; NULL: none */
    enum tier tier;
    const struct rule *rules; /* outer folders first; without a rule the file system is read-only */
    size_t rule_count;       /* 0: no isolation is wanted */
    char **command;          /* NULL-terminated */
};

/* A cgroup v2 folder that holds the command and what it starts. The path is empty when there is none. */
struct cgroup {
    char path[4096];
};

/* The command (or the first process of its pid namespace), and what is known of its end. */
struct command {
    pid_t pid;
    bool ended;
    int status; /* as waitpid gives it, once ended */
    int report; /* the status of the command in its namespace is read from here; 0: it is the process itself */
};

/* Of whoever runs this; a process in a new user namespace cannot ask for them before they are mapped. */
struct ids {
    uid_t user;
    gid_t group;
};

/* How the command was started. */
struct launch {
    struct command command;
    bool contained; /* it runs in the cgroup */
    bool apart;     /* it runs in a pid namespace */
    bool isolated;  /* it sees a read-only file system */
    bool lacking;   /* the containment that was asked for cannot be had (`error` says why): nothing runs */
    int error;      /* errno of what kept it from running, else 0 */
};

/* options.c: the command line; exits with status 2 when it makes no sense. */
struct options parse_options(int argc, char **argv);

/* cgroup.c */
bool cgroup_create(struct cgroup *group);       /* true when a leaf with cgroup.kill was made; ends stale ones */
int cgroup_join(const struct cgroup *group);    /* moves the calling process into it */
void cgroup_kill(const struct cgroup *group);   /* SIGKILL to all in it, forks under way included */
void cgroup_remove(struct cgroup *group);       /* once it is empty */

/* isolate.c: a private mount namespace, read-only but for the writable rules, without what the hidden ones name
 * (without any: as it was). `apart`: this
 * process is the first of a pid namespace, and gets the /proc that belongs to it. 0: complete. -1: not permitted here
 * or not complete, and this process must not run the command. */
int isolate(const struct rule *rules, size_t count, const struct ids *ids, bool apart);

/* namespace.c */
pid_t fork_apart(const struct ids *ids); /* as fork, the child being the first process of a pid namespace; -1: not here */
int map_ids(const struct ids *ids);  /* in a user namespace that was just made: these ids mean themselves */
bool proc_is_whole(void);            /* nothing is mounted over parts of /proc, which a fresh one would uncover */
int mount_proc(void);
int serve_as_init(pid_t command);    /* reaps until the command has ended: its status */

/* launch.c: starts the command in its own session; retries with less where namespaces are not permitted. */
struct launch launch(const struct options *options, const struct cgroup *group);
void let_go_of_output(void);

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
