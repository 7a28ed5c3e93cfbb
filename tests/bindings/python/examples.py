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

    def test_the_former_name_is_the_same_package(self):
        lines = "import sbx, libsbx; from sbx.filesystem import files; import sbx.hub; print(sbx is libsbx, sbx.hub is libsbx.hub)"
        done = python("-W", "always", "-c", lines)
        self.assertEqual(done.stdout, "True True\n", done.stderr)
        self.assertIn("<string>:1: DeprecationWarning: the package is called libsbx now", done.stderr)
        refused = python("-W", "error", "-c", "import libsbx.filesystem, libsbx.hub")
        self.assertEqual((refused.returncode, refused.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
