/*
 * Attacks on a TLS tunnel from outside, each until it is killed: attack_tls MODE PORT COUNT
 *
 *   records      COUNT connections, each full of records of a single byte
 *   handshakes   COUNT threads that begin a handshake, end it and connect again
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "common.h"

static SSL_CTX *tls;
static struct sockaddr_in target = {.sin_family = AF_INET};

static void breathe(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&target, sizeof target) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Ten thousand records are sealed into memory and sent by one write, so that little of the time is this side's own. */
static void *records(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = connected();
        SSL *ssl = SSL_new(tls);
        if (fd < 0 || ssl == NULL || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1) {
            SSL_free(ssl);
            if (fd >= 0)
                close(fd);
            breathe();
            continue;
        }
        BIO *memory = BIO_new(BIO_s_mem());
        SSL_set0_wbio(ssl, memory);
        for (int well = 1; well;) {
            for (int index = 0; index < 10000; index++)
                SSL_write(ssl, "x", 1);
            char *sealed;
            long length = BIO_get_mem_data(memory, &sealed);
            well = write_all(fd, sealed, (size_t)length) == 0;
            (void)BIO_reset(memory);
        }
        SSL_free(ssl);
        close(fd);
    }
    return NULL;
}

static void *handshakes(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = connected();
        SSL *ssl = SSL_new(tls);
        if (fd < 0 || ssl == NULL || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
            breathe();
        SSL_free(ssl);
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    void *(*run)(void *) = NULL;
    if (argc == 4 && strcmp(argv[1], "records") == 0)
        run = records;
    else if (argc == 4 && strcmp(argv[1], "handshakes") == 0)
        run = handshakes;
    if (run == NULL) {
        fprintf(stderr, "usage: attack_tls records|handshakes PORT COUNT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    alarm(3600);
    target.sin_port = htons((uint16_t)number(argv[2], 1, 65535));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1)
        die("TLS set-up");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    for (long count = number(argv[3], 1, 1000); count > 0; count--) {
        pthread_t thread;
        errno = pthread_create(&thread, NULL, run, NULL);
        if (errno != 0)
            die("pthread_create");
    }
    for (;;)
        pause();
}
