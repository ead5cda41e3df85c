/* Keeping the object of a unit that has ended well: see kept.c for what is written. */
#include "shim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All that the compiler has read; false where it is not known. */
static bool list_read(const struct unit *unit, const struct diagnostics *diagnostics, const char *scratch,
                      struct paths *paths)
{
    bool known = true;
    char *own = text_of("%s%s", scratch, KEPT_LIST);
    if (unit->keeping.leaves_out) {
        known = !diagnostics->precompiled && diagnostics->listed_size <= MOST_KEPT;
        if (known)
            paths_of_listing(paths, diagnostics->listed, diagnostics->listed_size);
    } else {
        known = paths_of_rule(paths, unit->keeping.depends ? unit->outputs[1].path : own);
    }
    unlink(own);
    paths_add(paths, unit->keeping.source, strlen(unit->keeping.source));
    paths_sort(paths);
    return known;
}

/* Beside the folder of kept objects lies all that a build makes; what is elsewhere does not change under it. */
static bool is_of_the_build(const struct unit *unit, const char *path)
{
    size_t length = (size_t)(base_name(unit->keeping.folder) - unit->keeping.folder);
    return strncmp(path, unit->keeping.folder, length) == 0;
}

/* What can tell one run from another without being one of the files that are listed. */
static bool tells_the_run(const struct content *content)
{
    return memmem(content->text, content->size, ".incbin", 7) != NULL ||
           memmem(content->text, content->size, "__TIMESTAMP__", 13) != NULL;
}

/* The lines about files that were read; false where one of them may have changed since the compiler began. */
static bool describe_read(const struct unit *unit, const struct paths *paths, struct timespec began, FILE *head,
                          struct paths *folders)
{
    for (size_t i = 0; i < paths->count; i++) {
        const char *path = paths->items[i];
        struct stat found;
        struct content content;
        char hash[KEY_LENGTH + 1], *whole = absolute(path);
        if (strchr(path, '\n') != NULL || stat(path, &found) != 0 || !read_content(path, &content))
            return false;
        bool own = is_of_the_build(unit, whole);
        if (nanoseconds(found.st_ctim) >= nanoseconds(began) || (own && tells_the_run(&content)))
            return false;
        content_key(&content, hash);
        fprintf(head, "read %s %s %s\n", hash, file_state(&found), path);
        if (own)
            paths_add(folders, whole, (size_t)(base_name(whole) - whole));
        free(content.text);
        free(whole);
    }
    return true;
}

static void describe_all(const char *verb, bool plain, struct paths *folders, FILE *head)
{
    char hash[KEY_LENGTH + 1];
    const char *above = NULL; /* the last one that was described: what lies in it was, too */
    paths_sort(folders);
    for (size_t i = 0; i < folders->count; i++) {
        if (above != NULL && begins(folders->items[i], above))
            continue;
        above = folders->items[i];
        headers_key(above, plain, hash);
        fprintf(head, "%s %s %s\n", verb, hash, above);
    }
}

/* Those of files that were read, and those that are searched (-I). */
static void describe_folders(const struct unit *unit, struct paths *folders, FILE *head)
{
    struct paths searched = {0};
    for (size_t i = 0; i < unit->keeping.folder_count; i++) {
        char *whole = text_of("%s/", absolute(unit->keeping.folders[i]));
        if (is_of_the_build(unit, whole))
            paths_add(&searched, whole, strlen(whole));
    }
    describe_all("headers", false, folders, head);
    describe_all("searched", true, &searched, head);
}

/* Whether the name of the temporary folder may be in the object. */
static bool needs_its_place(const struct unit *unit, const struct paths *paths, const struct content *object)
{
    const char *folder = unit->keeping.temporary;
    if (folder == NULL)
        return false;
    const char *name = base_name(folder);
    bool device = strcmp(unit->kind, "nvcc") == 0; /* device code is packed: what is in it cannot be searched for */
    for (size_t i = 0; device && i < paths->count; i++)
        if (begins(absolute(paths->items[i]), folder))
            return true;
    return unit->keeping.places_matter || begins(absolute(unit->keeping.source), folder) ||
           memmem(object->text, object->size, name, strlen(name)) != NULL;
}

static void put_kept(const struct unit *unit, const struct content *parts, size_t count)
{
    struct content all[6];
    struct key key;
    char hash[KEY_LENGTH + 1];
    key_begin(&key);
    for (size_t i = 0; i < count; i++) {
        all[i] = parts[i];
        key_bytes(&key, parts[i].text, parts[i].size);
    }
    key_end(&key, hash);
    all[count] = (struct content){.text = hash, .size = KEY_LENGTH};
    put_file(kept_place(unit), all, count + 1);
}

/* All that was passed on or is held back; false where it is not known. */
static bool all_that_was_said(const struct diagnostics *diagnostics, struct content *said)
{
    if (!diagnostics->whole || diagnostics->said_size + diagnostics->have > MOST_KEPT)
        return false;
    said->size = diagnostics->said_size + diagnostics->have;
    said->text = room_for(NULL, said->size + 1);
    if (diagnostics->said_size > 0)
        memcpy(said->text, diagnostics->said, diagnostics->said_size);
    memcpy(said->text + diagnostics->said_size, diagnostics->text, diagnostics->have);
    return true;
}

void kept_store(const struct unit *unit, struct diagnostics *diagnostics, const char *scratch, struct timespec began)
{
    struct paths paths = {0}, folders = {0};
    struct content parts[5] = {{0}}, *head = &parts[0]; /* head, outputs, what was said */
    size_t count = 1, size = 0;
    struct stat found;
    if (unit->keeping.name[0] == '\0' || scratch == NULL)
        return;
    bool good = list_read(unit, diagnostics, scratch, &paths);
    for (size_t i = 0; good && i < unit->output_count; i++) {
        const char *path = unit->outputs[i].path;
        good = lstat(path, &found) == 0 && S_ISREG(found.st_mode) && read_content(path, &parts[count++]);
    }
    FILE *text = good && all_that_was_said(diagnostics, &parts[count++]) ? open_memstream(&head->text, &size) : NULL;
    if (text == NULL)
        return;
    fprintf(text, "%stemporary %d %s\n", KEPT_TITLE, needs_its_place(unit, &paths, &parts[1]),
            unit->keeping.temporary == NULL ? "" : unit->keeping.temporary);
    good = describe_read(unit, &paths, began, text, &folders);
    describe_folders(unit, &folders, text);
    for (size_t i = 0; i < unit->output_count; i++)
        fprintf(text, "output %zu\n", parts[1 + i].size);
    fprintf(text, "said %zu\n\n", parts[count - 1].size);
    good = fclose(text) == 0 && good;
    head->size = size;
    if (good)
        put_kept(unit, parts, count);
}
