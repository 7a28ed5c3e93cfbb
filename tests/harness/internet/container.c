/* A server in a container of docker's: it says "reached" to whoever connects to port 80, and ends by SIGTERM. */

#define _POSIX_C_SOURCE 200809L

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int number) {
    (void)number;
    _exit(0);
}

int main(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sigaction action = {.sa_handler = end};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    /* Process 1 of a container gets only the signals that it has a handler for. */
    if (listener < 0 || sigaction(SIGTERM, &action, NULL) < 0 ||
        bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 16) < 0)
        return 1;
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection >= 0) {
            (void)!write(connection, "reached\n", 8);
            close(connection);
        }
    }
}
