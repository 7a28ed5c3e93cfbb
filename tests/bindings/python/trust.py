"""Whom clients trust: verification is always on."""

import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from support import examples, python, sbx, serve, unittest

FETCH = """
import os, sys
import requests
import libsbx as sbx
{before}
with sbx.Sandbox.create("python3", "-m", "http.server", "8000", encrypted_ports=[8000]) as sb:
    tunnel = sb.tunnels()[8000]
    sb.wait_until_ready()
    {fetch}
"""


def fetch(how="print(requests.get(tunnel.url, timeout=30).text)", before="", **environment):
    return python(
        "-c", FETCH.format(before=before, fetch=how), **{"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", **environment}
    )


class WithoutRequests(unittest.TestCase):
    def test_a_context_trusts_the_tunnels_authority_and_nobody_else_does(self):
        with serve(encrypted_ports=[8000]) as sb:
            tunnel = sb.tunnels()[8000]
            with urllib.request.urlopen(tunnel.url, context=tunnel.ssl_context(), timeout=30) as page:
                self.assertIn(b"Directory listing", page.read())
            with self.assertRaises(urllib.error.URLError) as caught:
                urllib.request.urlopen(tunnel.url, context=ssl.create_default_context(), timeout=30)
            self.assertIsInstance(caught.exception.reason, ssl.SSLCertVerificationError)

    def test_the_bundle_has_our_authority(self):
        with serve(encrypted_ports=[8000]) as sb:
            tunnel = sb.tunnels()[8000]
            with open(sbx.ca_bundle()) as bundle:
                self.assertIn(tunnel.ca_pem, bundle.read())

    def test_a_tunnels_bundle_has_its_sandboxs_authority_alone_and_goes_with_it(self):
        with serve(encrypted_ports=[8000]) as one, serve(encrypted_ports=[8000]) as two:
            first, second = one.tunnels()[8000], two.tunnels()[8000]
            path = first.ca_bundle()
            self.assertEqual(path, one.tunnels()[8000].ca_bundle())
            self.assertEqual(Path(path).read_text(), first.ca_pem)
            self.assertEqual(Path(second.ca_bundle()).read_text(), second.ca_pem)
            ours = ssl.create_default_context(cafile=path)
            with urllib.request.urlopen(first.url, context=ours, timeout=30) as page:
                self.assertIn(b"Directory listing", page.read())
            with self.assertRaises(urllib.error.URLError) as caught:
                urllib.request.urlopen(second.url, context=ours, timeout=30)
            self.assertIsInstance(caught.exception.reason, ssl.SSLCertVerificationError)
            one.terminate(wait=True)
            for _ in range(1000):
                try:
                    first.ca_bundle()
                except sbx.exception.NotFoundError:
                    break
                time.sleep(0.01)
            with self.assertRaises(sbx.exception.NotFoundError):
                first.ca_bundle()
            self.assertEqual(Path(path).read_text(), "", "nor is it another's while somebody has its path")
            self.assertEqual(Path(second.ca_bundle()).read_text(), second.ca_pem)
            ours = f"{path}"
            del path
            named = os.readlink(ours) if os.path.lexists(ours) else ""
            self.assertNotIn("sbx-ca-bundle", named, "it is closed then")

    def test_a_raw_tunnel_has_no_bundle(self):
        with serve(unencrypted_ports=[8000]) as sb, self.assertRaises(sbx.exception.InvalidError):
            sb.tunnels()[8000].ca_bundle()

    def test_an_authority_is_one_sandboxs_and_goes_with_it(self):
        with serve(encrypted_ports=[8000]) as one, serve(encrypted_ports=[8000]) as two:
            first, second = one.tunnels()[8000], two.tunnels()[8000]
            self.assertNotEqual(first.ca_pem, second.ca_pem)
            with self.assertRaises(urllib.error.URLError) as caught:
                urllib.request.urlopen(second.url, context=first.ssl_context(), timeout=30)
            self.assertIsInstance(caught.exception.reason, ssl.SSLCertVerificationError)
            with urllib.request.urlopen(second.url, context=second.ssl_context(), timeout=30) as page:
                self.assertIn(b"Directory listing", page.read())
            path = sbx.ca_bundle()
            one.terminate(wait=True)
            for _ in range(1000):
                bundle = Path(path).read_text()
                if first.ca_pem not in bundle:
                    break
                time.sleep(0.01)
            self.assertNotIn(first.ca_pem, bundle)
            self.assertIn(second.ca_pem, bundle)
            everyone = ssl.create_default_context(cafile=path)
            with urllib.request.urlopen(second.url, context=everyone, timeout=30) as page:
                self.assertIn(b"Directory listing", page.read())


class WithRequests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            import requests  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("requests is not installed") from None

    def test_requests_verifies_with_nothing_said(self):
        done = fetch()
        self.assertIn("Directory listing", done.stdout, done.stderr)

    def test_the_public_authorities_are_still_trusted(self):
        done = fetch("import certifi; print(open(certifi.where()).read() in open(sbx.ca_bundle()).read())")
        self.assertEqual(done.stdout.strip(), "True", done.stderr)

    def test_a_bundle_that_is_named_already_is_left_alone(self):
        import certifi

        done = fetch(REQUESTS_CA_BUNDLE=certifi.where())
        self.assertIn("SSLError", done.stderr)
        self.assertNotIn("Directory listing", done.stdout)
        done = fetch("print(requests.get(tunnel.url, verify=sbx.ca_bundle()).text)", REQUESTS_CA_BUNDLE=certifi.where())
        self.assertIn("Directory listing", done.stdout, done.stderr)

    def test_requests_takes_a_tunnels_own_bundle(self):
        done = fetch("print(requests.get(tunnel.url, verify=tunnel.ca_bundle(), timeout=30).text)")
        self.assertIn("Directory listing", done.stdout, done.stderr)
        with serve(encrypted_ports=[8000]) as other:
            how = f"requests.get({other.tunnels()[8000].url!r}, verify=tunnel.ca_bundle(), timeout=30)"
            self.assertIn("SSLError", fetch(how).stderr)

    def test_it_can_be_switched_off(self):
        done = fetch("print(os.environ.get('REQUESTS_CA_BUNDLE'))", before="sbx.trust_in_environment = False")
        self.assertEqual(done.stdout.strip(), "None", done.stderr)

    def test_the_hosts_children_trust_it_too(self):
        child = "import requests, sys; print(requests.get(sys.argv[1], timeout=30).text)"
        done = fetch(f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}, tunnel.url], check=True)")
        self.assertIn("Directory listing", done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main()
