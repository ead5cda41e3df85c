/* Removing a folder: everything in it is gone or nothing outside was touched. */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch scratch_remember(const char *path)
{
    struct scratch scratch = {0};
    struct stat found;
    /* An own folder, named in full: the root and what is not ours are never meant. */
    if (path != NULL && path[0] == '/' && path[1] != '\0' && lstat(path, &found) == 0 && S_ISDIR(found.st_mode) &&
        found.st_uid == geteuid())
        scratch = (struct scratch){.path = path, .device = found.st_dev, .inode = found.st_ino};
    return scratch;
}

/* Empties the folder that the descriptor (closed here) stands for. Other file systems mounted below are left alone. */
static void empty_folder(int descriptor, dev_t device)
{
    fchmod(descriptor, 0700);
    DIR *folder = fdopendir(descriptor);
    if (folder == NULL) {
        close(descriptor);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(descriptor, entry->d_name, 0) == 0 || (errno != EISDIR && errno != EPERM))
            continue;
        struct stat found;
        if (fstatat(descriptor, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(found.st_mode) ||
            found.st_dev != device)
            continue;
        /* A folder that forbids reading can still be ours: O_PATH would not do for readdir. */
        fchmodat(descriptor, entry->d_name, 0700, 0);
        int below = openat(descriptor, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0)
            empty_folder(below, device);
        unlinkat(descriptor, entry->d_name, AT_REMOVEDIR);
    }
    closedir(folder);
}

void scratch_remove(const struct scratch *scratch)
{
    if (scratch->path == NULL)
        return;
    chmod(scratch->path, 0700);
    int descriptor = open(scratch->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat found;
    if (descriptor < 0)
        return;
    if (fstat(descriptor, &found) != 0 || found.st_dev != scratch->device || found.st_ino != scratch->inode) {
        close(descriptor);
        return;
    }
    empty_folder(descriptor, scratch->device);
    rmdir(scratch->path);
}
