"""tests/integration/test_gateway_tls.py -- the gateway in front of a backend with a name and a certificate."""
import os
import shutil
import ssl
import subprocess
import tempfile

import backend
import harness


class Gateway(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="whilst-gateway-tls-")
        cls.ca, cls.key = f"{cls.folder}/ca.pem", f"{cls.folder}/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost", "-keyout", cls.key, "-out", cls.ca],
                       check=True, capture_output=True)
        cls.server = harness.Server(env={"SSL_CERT_FILE": cls.ca})
        cls.counter = 0

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def setUp(self):
        super().setUp()
        self.backend = backend.Backend()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, self.key)
        self.backend.socket = context.wrap_socket(self.backend.socket, server_side=True)
        self.port = self.backend.server_address[1]

    def tearDown(self):
        self.backend.stop()
        super().tearDown()

    def test_passes_through_and_is_recorded(self):
        self.client.put("/v1/services/s", {"url": f"https://localhost:{self.port}"})
        for prefer in ({}, {"Prefer": "wait=20"}):
            for _ in range(2):
                answer = self.client.post("/call/s/echo", b"body", **prefer)
                self.assertEqual((answer.status, answer["X-Backend"]), (200, "yes"), answer)

    def test_not_the_one_that_was_meant(self):
        self.client.put("/v1/services/s", {"url": f"https://127.0.0.1:{self.port}"})  # the certificate is for the name
        self.assertEqual(self.client.get("/call/s/echo").status, 502)

    def test_a_name_in_the_clear(self):
        plain = backend.Backend()
        try:
            self.client.put("/v1/services/s", {"url": f"http://localhost:{plain.server_address[1]}"})
            self.assertEqual(self.client.get("/call/s/echo").status, 200)
        finally:
            plain.stop()


if __name__ == "__main__":
    harness.main()
