#include "shim.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t value, int bits)
{
    return value >> bits | value << (32 - bits);
}

static void digest_block(struct key *key, const unsigned char *block)
{
    uint32_t words[64], s[8];
    for (int i = 0; i < 16; i++) {
        const unsigned char *four = block + 4 * i;
        words[i] = (uint32_t)four[0] << 24 | (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 | four[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t early = words[i - 15], late = words[i - 2];
        words[i] = words[i - 16] + (turn(early, 7) ^ turn(early, 18) ^ early >> 3) + words[i - 7] +
                   (turn(late, 17) ^ turn(late, 19) ^ late >> 10);
    }
    memcpy(s, key->state, sizeof s);
    /* The eight words move on by one place a round; so that none has to be copied, their names do. */
    for (int i = 0; i < 64; i++) {
        uint32_t *a = &s[(64 - i) & 7], *b = &s[(65 - i) & 7], *c = &s[(66 - i) & 7], *d = &s[(67 - i) & 7];
        uint32_t *e = &s[(68 - i) & 7], *f = &s[(69 - i) & 7], *g = &s[(70 - i) & 7], *h = &s[(71 - i) & 7];
        *h += (turn(*e, 6) ^ turn(*e, 11) ^ turn(*e, 25)) + ((*e & *f) ^ (~*e & *g)) + ROUND[i] + words[i];
        *d += *h;
        *h += (turn(*a, 2) ^ turn(*a, 13) ^ turn(*a, 22)) + ((*a & *b) ^ (*a & *c) ^ (*b & *c));
    }
    for (int i = 0; i < 8; i++)
        key->state[i] += s[i];
}

static void add(struct key *key, const void *data, size_t size)
{
    const unsigned char *from = data;
    while (size > 0) {
        size_t have = key->length % sizeof key->block, part = sizeof key->block - have;
        part = part < size ? part : size;
        if (part == sizeof key->block) {
            digest_block(key, from);
        } else {
            memcpy(key->block + have, from, part);
            if (have + part == sizeof key->block)
                digest_block(key, key->block);
        }
        key->length += part;
        from += part;
        size -= part;
    }
}

void key_bytes(struct key *key, const void *data, size_t size)
{
    add(key, data, size);
}

void key_begin(struct key *key)
{
    *key = (struct key){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                                  0x5be0cd19}};
}

/* How much of the text is the name of a place; `place` is one entry of CUDABUILD_PLACES. */
static size_t place_length(const char *text, const char *place, size_t length)
{
    bool one_more = length > 2 && place[length - 2] == '/' && place[length - 1] == '*';
    size_t name = one_more ? length - 2 : length;
    if (name == 0 || strncmp(text, place, name) != 0 || (text[name] != '/' && text[name] != '\0'))
        return 0;
    if (one_more && text[name] == '/')
        name += 1 + strcspn(text + name + 1, "/");
    return name;
}

/* A word without the names of places, wherever in it they stand (-I/place, -DROOT="/place"). */
static void add_without_places(struct key *key, const char *word)
{
    const char *places = getenv("CUDABUILD_PLACES");
    while (*word != '\0') {
        size_t longest = 0, index = 0;
        const char *place = *word == '/' && places != NULL ? places : "";
        for (size_t i = 0; *place != '\0'; i++) {
            size_t length = strcspn(place, ":"), found = place_length(word, place, length);
            if (found > longest) {
                longest = found;
                index = i;
            }
            place += length + (place[length] == ':');
        }
        if (longest > 0) {
            unsigned char sign[] = {'{', (unsigned char)('0' + index), '}'};
            add(key, sign, sizeof sign);
            word += longest;
        } else {
            add(key, word++, 1);
        }
    }
}

void key_add(struct key *key, const char *label, const char *word)
{
    add(key, label, strlen(label) + 1);
    add_without_places(key, word);
    add(key, "", 1);
}

void key_end(struct key *key, char *hexadecimal)
{
    uint64_t bits = key->length * 8;
    add(key, "\x80", 1);
    while (key->length % sizeof key->block != 56)
        add(key, "", 1);
    for (int shift = 56; shift >= 0; shift -= 8) {
        unsigned char byte = (unsigned char)(bits >> shift);
        add(key, &byte, 1);
    }
    static const char DIGITS[] = "0123456789abcdef";
    for (int i = 0; i < 64; i++)
        hexadecimal[i] = DIGITS[key->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hexadecimal[64] = '\0';
}
