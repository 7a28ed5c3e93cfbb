"""The examples, as programs of their own."""

from support import examples, python, unittest


class Examples(unittest.TestCase):
    def run_example(self, name):
        done = python("-X", "dev", str(examples / name), REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Directory listing for /", done.stdout)
        self.assertIn("https://127.0.0.1:", done.stdout)
        return done.stdout

    def test_the_seed_program(self):
        self.assertIn("ended with 137", self.run_example("http_server.py"))

    def test_modals_page_with_only_its_import_changed(self):
        try:
            import requests  # noqa: F401
        except ImportError:
            self.skipTest("requests is not installed")
        self.run_example("modal_page.py")


if __name__ == "__main__":
    unittest.main()
