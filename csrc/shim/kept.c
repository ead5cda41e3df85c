/* Objects of finished units, kept for the next try of their build.
 *
 * A build that was ended is made again from the beginning, and each unit of which nothing has changed gets the object
 * that its compiler has made before. One file a unit, named after all that is known before the compiler runs (keep.c):
 *
 *   cudabuild-kept 2
 *   temporary EXACT FOLDER              the temporary folder of that run; EXACT 1: the object depends on its name
 *   read HASH SIZE TIME TIME INODE PATH  for each file that the compiler has read
 *   headers HASH FOLDER                 of the names of the headers there and below: a new one could stand before
 *                                       another
 *   searched HASH FOLDER                the same for a folder of -I; files without an ending count as well
 *   output SIZE                         for each of the unit's outputs
 *   said SIZE                           on standard error
 *   (an empty line, the outputs, what was said, and 64 digits: the hash of all before)
 *
 * Anything else than exactly this is no kept object. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A path in the temporary folder of the kept object's run as it is in this one's. */
static char *moved(const char *path, const char *before, const char *now)
{
    size_t length = strlen(before);
    if (length > 0 && now != NULL && strncmp(path, before, length) == 0 && path[length] == '/')
        return text_of("%s%s", now, path + length);
    return text_of("%s", path);
}

static bool is_unchanged(const char *hash, const char *state, const char *path)
{
    struct stat found;
    struct content content;
    char now[KEY_LENGTH + 1];
    if (stat(path, &found) != 0)
        return false;
    char *current = file_state(&found);
    bool same = strcmp(current, state) == 0;
    free(current);
    if (same)
        return true;
    if (!read_content(path, &content))
        return false;
    content_key(&content, now);
    free(content.text);
    return strcmp(now, hash) == 0;
}

/* A kept object as it was read. */
struct kept {
    struct content file;
    char *data; /* where the outputs begin */
    size_t left;
    char *before; /* the temporary folder then */
    struct content outputs[2], said;
    size_t output_count;
};

static bool take_data(struct kept *kept, const char *size, struct content *part)
{
    char *end;
    unsigned long long length = strtoull(size, &end, 10);
    if (*end != '\0' || end == size || length > kept->left)
        return false;
    *part = (struct content){.text = kept->data, .size = (size_t)length};
    kept->data += length;
    kept->left -= (size_t)length;
    return true;
}

static bool take_line(struct kept *kept, const struct unit *unit, char *line)
{
    char *verb = strsep(&line, " "), hash[KEY_LENGTH + 1];
    if (line == NULL)
        return false;
    if (strcmp(verb, "temporary") == 0) {
        bool exact = line[0] == '1';
        kept->before = line + (line[0] != '\0' && line[1] == ' ' ? 2 : 0);
        const char *now = unit->keeping.temporary == NULL ? "" : unit->keeping.temporary;
        return (kept->before[0] == '\0') == (now[0] == '\0') && (!exact || strcmp(kept->before, now) == 0);
    }
    if (strcmp(verb, "read") == 0 || strcmp(verb, "headers") == 0 || strcmp(verb, "searched") == 0) {
        char *wanted = strsep(&line, " "), *state = line;
        for (int field = 0; verb[0] == 'r' && line != NULL && field < 4; field++)
            strsep(&line, " ");
        if (line == NULL || kept->before == NULL)
            return false;
        if (verb[0] == 'r')
            for (char *blank = state; blank < line - 1; blank++)
                *blank = *blank == '\0' ? ' ' : *blank;
        char *path = moved(line, kept->before, unit->keeping.temporary);
        if (verb[0] == 'r')
            return is_unchanged(wanted, state, path);
        headers_key(path, verb[0] == 's', hash);
        return strcmp(hash, wanted) == 0;
    }
    if (strcmp(verb, "output") == 0)
        return kept->output_count < 2 && take_data(kept, line, &kept->outputs[kept->output_count++]);
    return strcmp(verb, "said") == 0 && take_data(kept, line, &kept->said);
}

/* Whether the file is whole, and the object what the compiler would make now. */
static bool is_valid(struct kept *kept, const struct unit *unit)
{
    struct content *file = &kept->file;
    char hash[KEY_LENGTH + 1], *head = file->text + sizeof KEPT_TITLE - 1;
    if (file->size < sizeof KEPT_TITLE + KEY_LENGTH || memcmp(file->text, KEPT_TITLE, sizeof KEPT_TITLE - 1) != 0)
        return false;
    size_t size = file->size - KEY_LENGTH;
    content_key(&(struct content){.text = file->text, .size = size}, hash);
    char *end = memmem(file->text, size, "\n\n", 2);
    if (memcmp(hash, file->text + size, KEY_LENGTH) != 0 || end == NULL)
        return false;
    *end = '\0';
    kept->data = end + 2;
    kept->left = (size_t)(file->text + size - kept->data);
    for (char *line; (line = strsep(&head, "\n")) != NULL;)
        if (!take_line(kept, unit, line))
            return false;
    return kept->left == 0 && kept->output_count == unit->output_count && kept->before != NULL;
}

/* Text in which the temporary folder of then is called as it is now. */
static struct content renamed(const struct content *text, const char *before, const char *now)
{
    size_t length = strlen(before), size;
    if (length == 0 || now == NULL || strcmp(before, now) == 0)
        return *text;
    struct content result = {0};
    FILE *to = open_memstream(&result.text, &size);
    const char *from = text->text, *end = from + text->size, *found;
    while (to != NULL && (found = memmem(from, (size_t)(end - from), before, length)) != NULL) {
        fwrite(from, 1, (size_t)(found - from), to);
        fputs(now, to);
        from = found + length;
    }
    if (to == NULL)
        return *text;
    fwrite(from, 1, (size_t)(end - from), to);
    fclose(to);
    result.size = size;
    return result;
}

/* What a compiler would replace; a link or a device is written through by it, and left to it. */
static bool can_be_put(const struct unit *unit)
{
    struct stat found;
    for (size_t i = 0; i < unit->output_count; i++)
        if (lstat(unit->outputs[i].path, &found) == 0 ? !S_ISREG(found.st_mode) : errno != ENOENT)
            return false;
    return true;
}

static void count_one(const struct unit *unit)
{
    char *path = text_of("%s/given", unit->keeping.folder), *line = text_of("%s\n", unit->name);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (descriptor >= 0 && write(descriptor, line, strlen(line)) < 0)
        errno = 0; /* it is for people to know */
    close(descriptor);
}

void kept_give(const struct unit *unit)
{
    struct kept kept = {0};
    const char *now = unit->keeping.temporary;
    if (unit->keeping.name[0] == '\0' || !read_content(kept_place(unit), &kept.file))
        return;
    if (is_valid(&kept, unit) && can_be_put(unit)) {
        struct content list = renamed(&kept.outputs[1], kept.before, now);
        struct content said = renamed(&kept.said, kept.before, now);
        bool good = kept.output_count < 2 || put_file(unit->outputs[1].path, &list, 1);
        if (good && put_file(unit->outputs[0].path, &kept.outputs[0], 1)) {
            count_one(unit);
            diagnostics_say(said.text, said.size);
            _exit(0);
        }
    }
    free(kept.file.text);
}

bool kept_lists(const struct unit *unit)
{
    return unit->keeping.name[0] != '\0' && unit->keeping.leaves_out;
}

char **kept_words(const struct unit *unit, char **words, const char *scratch)
{
    size_t count = 0, more = 0;
    char *added[3];
    if (unit->keeping.name[0] == '\0' || scratch == NULL)
        return words;
    if (unit->keeping.leaves_out) {
        added[more++] = (char *)"-H";
    } else if (!unit->keeping.depends) {
        added[more++] = (char *)"-MD";
        added[more++] = (char *)"-MF";
        added[more++] = text_of("%s%s", scratch, KEPT_LIST);
    }
    while (words[count] != NULL)
        count++;
    char **result = room_for(NULL, (count + more + 1) * sizeof *result);
    result[0] = words[0];
    memcpy(result + 1, added, more * sizeof *added);
    memcpy(result + 1 + more, words + 1, count * sizeof *words);
    return result;
}
