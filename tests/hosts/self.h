/* What a host program can count of itself. */
#ifndef SELF_H
#define SELF_H
#include "host.h"

__attribute__((unused)) static int entries(const char *directory) {
    int count = 0;
    DIR *open = opendir(directory);
    CHECK(open != NULL);
    while (readdir(open) != NULL)
        count++;
    closedir(open);
    return count;
}

__attribute__((unused)) static int descriptors(void) { return entries("/proc/self/fd"); }
__attribute__((unused)) static int threads(void) { return entries("/proc/self/task") - 2; }

/* Memory that is its own, in KiB. */
__attribute__((unused)) static long memory(void) {
    long anonymous = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "RssAnon: %ld kB", &anonymous) == 1)
            break;
    fclose(status);
    return anonymous;
}

/* No child, living or dead: every keeper was taken off the kernel's list. */
__attribute__((unused)) static bool childless(void) {
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

/* Waits until the descriptors are as many again: the library's threads close the last after the event. */
__attribute__((unused)) static void settle(int expected) {
    for (int i = 0; i < 5000 && descriptors() != expected; i++)
        nap(1000);
    CHECK(descriptors() == expected);
}
#endif
