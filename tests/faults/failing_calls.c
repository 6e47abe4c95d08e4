/* Stands between a program and the C library. Preloaded, with FAILING_CALLS naming a folder:

     <folder>/records   what fsync made durable is appended here, one record a line that ends in a dot:
                        F <tab> path <tab> size           a file, and how long it was
                        D <tab> path <tab> name/name/     a folder, and what was in it
                        E <tab> path <tab> errno          an fsync that was made to fail
     <folder>/rule      "id kind skip count errno most": what becomes of later calls
                        fsync   of live segments: after `skip` of them, `count` fail
                        folder  of folders: the same
                        hang    each fsync of a live segment waits until the rule is gone
                        slow    each fsync of anything waits for `most` microseconds
                        write   to live segments: after `skip` of them one writes `most` bytes,
                                and the next `count` fail
     <folder>/clock     seconds that the wall clock is ahead by

   A rule with another id counts from zero. The real call is made before its record is written,
   so a record never says more than is true.
*/

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct rule {
    long id, skip, count, error, most;
    char kind[16];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counted_id, counted;

static int control(const char *name, char *content, size_t size) {
    char path[PATH_MAX];
    const char *folder = getenv("FAILING_CALLS");
    if (!folder || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return 0;
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0) return 0;
    ssize_t got = read(handle, content, size - 1);
    close(handle);
    content[got > 0 ? got : 0] = 0;
    return got > 0;
}

static int path_of(int handle, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0 && path[0] == '/';
}

static int is_live(const char *path) {
    return strstr(path, ".seg.live") != NULL;
}

static int there_is_a(struct rule *rule) {
    char text[256];
    if (!control("rule", text, sizeof text)) return 0;
    return sscanf(text, "%ld %15s %ld %ld %ld %ld", &rule->id, rule->kind, &rule->skip, &rule->count,
                  &rule->error, &rule->most) == 6;
}

/* The number of this call behind those that the rule skips; negative while it skips. */
static long count_call(const struct rule *rule) {
    pthread_mutex_lock(&lock);
    if (counted_id != rule->id) {
        counted_id = rule->id;
        counted = 0;
    }
    long number = counted++ - rule->skip;
    pthread_mutex_unlock(&lock);
    return number;
}

static void note(char kind, const char *path, const char *rest) {
    char *line = NULL;
    char target[PATH_MAX];
    const char *folder = getenv("FAILING_CALLS");
    if (!folder || snprintf(target, sizeof target, "%s/records", folder) >= (int)sizeof target) return;
    /* A line that a kill cut short does not spoil the next one. */
    int length = asprintf(&line, "\n%c\t%s\t%s\t.", kind, path, rest);
    int handle = open(target, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (length < 0 || handle < 0 || real(handle, line, length) != length) abort();
    close(handle);
    free(line);
}

static char *names_in(const char *path) {
    size_t room = 65536, used = 0;
    char *names = malloc(room);
    DIR *folder = opendir(path);
    if (!names || !folder) abort();
    names[0] = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (used + length + 2 > room && !(names = realloc(names, room *= 2))) abort();
        memcpy(names + used, entry->d_name, length);
        memcpy(names + used + length, "/", 2);
        used += length + 1;
    }
    closedir(folder);
    return names;
}

int fsync(int handle) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    char path[PATH_MAX], text[64];
    struct stat status;
    struct rule rule;
    if (!path_of(handle, path) || fstat(handle, &status)) return real(handle);
    if (there_is_a(&rule)) {
        if (!strcmp(rule.kind, S_ISDIR(status.st_mode) ? "folder" : "fsync") &&
            (S_ISDIR(status.st_mode) || is_live(path))) {
            long number = count_call(&rule);
            if (number >= 0 && number < rule.count) {
                snprintf(text, sizeof text, "%ld", rule.error);
                note('E', path, text);
                errno = (int)rule.error;
                return -1;
            }
        } else if (!strcmp(rule.kind, "hang") && is_live(path)) {
            for (long id = rule.id; there_is_a(&rule) && rule.id == id;) usleep(5000);
        } else if (!strcmp(rule.kind, "slow")) {
            usleep((useconds_t)rule.most);
        }
    }
    /* What comes while it is under way may or may not be meant by it: only what was there before is. */
    char *names = S_ISDIR(status.st_mode) ? names_in(path) : NULL;
    int result = real(handle);
    if (!result) {
        snprintf(text, sizeof text, "%lld", (long long)status.st_size);
        note(names ? 'D' : 'F', path, names ? names : text);
    }
    free(names);
    return result;
}

ssize_t write(int handle, const void *content, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    char path[PATH_MAX];
    struct rule rule;
    if (path_of(handle, path) && is_live(path) && there_is_a(&rule) && !strcmp(rule.kind, "write")) {
        long number = count_call(&rule);
        if (number == 0 && size > (size_t)rule.most) return real(handle, content, (size_t)rule.most);
        if (number > 0 && number <= rule.count) {
            errno = (int)rule.error;
            return -1;
        }
    }
    return real(handle, content, size);
}

static long ahead(void) {
    char text[64];
    return control("clock", text, sizeof text) ? atol(text) : 0;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, now);
    if (!result && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (!result) now->tv_sec += ahead();
    return result;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
