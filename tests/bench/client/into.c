/*
 * into PID PORT... -- PROGRAM ARGUMENT...
 *
 * Runs a program in the network namespace of process PID, with listeners on the caller's own 127.0.0.1:PORT
 * as its descriptors 3, 4, ... So a peer listens and connects just where the library does: it accepts in the
 * host's namespace and connects in the sandbox's gateway.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "namespace.h"

int main(int argc, char **argv)
{
    int index = 2, expected = 3, one = 1;
    if (argc < 2)
        return 2;
    long pid = number(argv[1], 1, 1L << 30);
    for (; index < argc && strcmp(argv[index], "--") != 0; index++, expected++) {
        long port = number(argv[index], 1, 65535);
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)port),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
            die("socket");
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
            die("listen on 127.0.0.1:%ld", port);
        if (fd != expected && (dup2(fd, expected) < 0 || close(fd) < 0))
            die("descriptor %d", expected);
    }
    if (index + 1 >= argc) {
        fprintf(stderr, "usage: into PID PORT... -- PROGRAM ARGUMENT...\n");
        return 2;
    }
    enter_network_of(pid);
    execvp(argv[index + 1], argv + index + 1);
    die("%s can't be executed", argv[index + 1]);
}
