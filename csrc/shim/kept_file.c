/* Files of kept objects: read whole, written whole or not at all. */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEEPEST = 32 }; /* folders in folders that are looked into */

/* Read and not mapped: a file that somebody makes shorter meanwhile would end this program. */
bool read_content(const char *path, struct content *content)
{
    struct stat found;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *content = (struct content){0};
    if (descriptor < 0)
        return false;
    bool good = fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
    size_t room = good ? (size_t)found.st_size : 0;
    content->text = room_for(NULL, room + 1);
    while (good && content->size < room) {
        ssize_t size = read(descriptor, content->text + content->size, room - content->size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            break;
        content->size += (size_t)size;
    }
    content->text[content->size] = '\0';
    close(descriptor);
    if (!good)
        free(content->text);
    return good;
}

void content_key(const struct content *content, char *hexadecimal)
{
    struct key key;
    key_begin(&key);
    key_bytes(&key, content->text, content->size);
    key_end(&key, hexadecimal);
}

static bool is_header(const char *name)
{
    static const char *const ENDINGS[] = {".h", ".hh", ".hpp", ".hxx", ".H", ".h++", ".cuh", ".inc", ".inl", ".ipp",
                                          ".tcc", ".def", ".gch"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (ends(name, ENDINGS[i]))
            return true;
    return false;
}

/* Whether headers may lie in it: what a backend writes about the package comes and goes from try to try. */
static bool is_folder(const struct dirent *entry, const char *path)
{
    struct stat found;
    if (ends(path, ".egg-info") || ends(path, ".dist-info"))
        return false;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return lstat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* The headers in a folder (its path ends with a slash) and in those below it; names begin after so many bytes. A
 * header without an ending (Eigen/Core) is told from other files by where it lies only: plain counts it, too. */
static void add_headers(const char *folder, size_t skipped, bool plain, unsigned depth, struct paths *names)
{
    DIR *opened = opendir(folder);
    for (struct dirent *entry; opened != NULL && (entry = readdir(opened)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = text_of("%s%s", folder, entry->d_name);
        if (is_folder(entry, path)) {
            char *below = text_of("%s/", path);
            if (depth < DEEPEST)
                add_headers(below, skipped, plain, depth + 1, names);
            free(below);
        } else if (is_header(entry->d_name) || (plain && strchr(entry->d_name, '.') == NULL)) {
            paths_add(names, path + skipped, strlen(path + skipped));
        }
        free(path);
    }
    if (opened != NULL)
        closedir(opened);
}

void headers_key(const char *folder, bool plain, char *hexadecimal)
{
    struct paths names = {0};
    struct key key;
    add_headers(folder, strlen(folder), plain, 0, &names);
    paths_sort(&names);
    key_begin(&key);
    for (size_t i = 0; i < names.count; i++)
        key_bytes(&key, names.items[i], strlen(names.items[i]) + 1);
    key_end(&key, hexadecimal);
}

static bool write_all(int descriptor, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(descriptor, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        size -= (size_t)written;
    }
    return true;
}

bool put_file(const char *path, const struct content *parts, size_t count)
{
    char *partial = text_of("%s.cudabuild-%d", path, (int)getpid());
    int descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    bool good = descriptor >= 0;
    for (size_t i = 0; good && i < count; i++)
        good = write_all(descriptor, parts[i].text, parts[i].size);
    if (descriptor >= 0)
        good = close(descriptor) == 0 && good;
    good = good && rename(partial, path) == 0;
    if (!good && descriptor >= 0)
        unlink(partial);
    return good;
}

char *kept_place(const struct unit *unit)
{
    return text_of("%s/%s", unit->keeping.folder, unit->keeping.name);
}

int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* What a file's state is known by; its content need not be read where none of it has changed. */
char *file_state(const struct stat *found)
{
    return text_of("%lld %" PRId64 " %" PRId64 " %llu", (long long)found->st_size, nanoseconds(found->st_mtim),
                   nanoseconds(found->st_ctim), (unsigned long long)found->st_ino);
}
