/* Command lines as their compilers read them: response files as libiberty's expandargv does (gcc, ld and nvcc agree
 * on it): words end at white space, quotes group, a backslash takes the next character as it is. */
#include "shim.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct word {
    char *text;
    size_t length, room;
    bool any; /* "" is a word, too */
};

static void add(struct word *word, char character)
{
    if (word->length + 1 >= word->room) {
        word->room = word->room == 0 ? 256 : 2 * word->room;
        word->text = room_for(word->text, word->room);
    }
    word->text[word->length++] = character;
    word->any = true;
}

static void finish(struct word *word, word_sink *sink, void *to)
{
    if (!word->any)
        return;
    add(word, '\0');
    sink(to, word->text);
    *word = (struct word){.text = word->text, .room = word->room};
}

void split_words(const char *text, size_t size, word_sink *sink, void *to)
{
    struct word word = {0};
    char quote = '\0';
    for (size_t i = 0; i < size; i++) {
        char character = text[i];
        if (character == '\\' && i + 1 < size) {
            add(&word, text[++i]);
        } else if (quote != '\0') {
            if (character == quote)
                quote = '\0';
            else
                add(&word, character);
        } else if (character == '\'' || character == '"') {
            quote = character;
            word.any = true;
        } else if (strchr(" \t\n\r\f\v", character) != NULL) {
            finish(&word, sink, to);
        } else {
            add(&word, character);
        }
    }
    finish(&word, sink, to);
}

bool read_words(const char *path, word_sink *sink, void *to)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat found;
    if (descriptor < 0)
        return false;
    bool regular = fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
    size_t size = regular ? (size_t)found.st_size : 0;
    /* Mapped, so that a list of thousands of objects does not stay in memory while the unit waits. */
    char *text = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
    close(descriptor);
    if (text != MAP_FAILED) {
        split_words(text, size, sink, to);
        munmap(text, size);
    }
    return regular;
}
