"""tests/integration/authority.py -- an authority that signs certificates, for tests; in a folder of its own."""
import shutil
import subprocess
import tempfile


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Authority:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-authority-")
        self.certificate, self.key = f"{self.folder}/ca.pem", f"{self.folder}/ca.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=authority", "-keyout", self.key, "-out", self.certificate)

    def sign(self, name, path):
        """A certificate for localhost and 127.0.0.1 with that common name at PATH.pem, its key at PATH.key."""
        path = f"{self.folder}/{path}"
        with open(f"{path}.ext", "w") as ext:
            ext.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{path}.key", "-out", f"{path}.csr")
        run("openssl", "x509", "-req", "-in", f"{path}.csr", "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-days", "2", "-extfile", f"{path}.ext", "-out", f"{path}.pem")
        return f"{path}.pem", f"{path}.key"

    def remove(self):
        shutil.rmtree(self.folder)
