"""tests/integration/test_gateway_nginx.py -- the gateway in front of nginx: conditional requests, ranges, compression."""
import os
import shutil
import socket
import subprocess
import tempfile

import harness
import packaged


class Nginx(harness.Case):
    def test_in_front_of_nginx(self):
        folder = tempfile.mkdtemp(prefix="whilst-nginx-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        with open(f"{folder}/page", "wb") as f:
            f.write(b"p" * 100000)
        with open(f"{folder}/conf", "w") as f:
            f.write(f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
                    f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}/p; "
                    f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; server {{ "
                    f"listen 127.0.0.1:{port}; root {folder}; gzip on; gzip_proxied any; gzip_types *; }} }}\n")
        os.chmod(folder, 0o755)
        process = subprocess.Popen([NGINX, "-p", folder, "-c", f"{folder}/conf", "-e", "stderr"], stderr=subprocess.PIPE)
        try:
            def up():
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    return True
                except OSError:
                    return False
            harness.eventually(up, "nginx")
            self.client.put("/v1/services/nginx", {"url": f"http://127.0.0.1:{port}"})
            for prefer in ({}, {"Prefer": "wait=20"}):
                answer = self.client.get("/call/nginx/page", **prefer)
                self.assertEqual((answer.status, answer.body), (200, b"p" * 100000))
                again = self.client.get("/call/nginx/page", If_None_Match=answer["ETag"], **prefer)
                self.assertEqual((again.status, again.body), (304, b""))
                part = self.client.get("/call/nginx/page", Range="bytes=5-9", **prefer)
                self.assertEqual((part.status, part.body), (206, b"p" * 5))
                self.assertEqual(self.client.get("/call/nginx/none", **prefer).status, 404)
                head = self.client.request("HEAD", "/call/nginx/page", **prefer)
                self.assertEqual((head.status, head.body), (200, b""))
                if not prefer:
                    self.assertEqual(head["Content-Length"], "100000")
                packed = self.client.get("/call/nginx/page", Accept_Encoding="gzip", **prefer)
                self.assertEqual(packed["Content-Encoding"], "gzip")
        finally:
            process.terminate()
            process.communicate()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    NGINX = shutil.which("nginx") or packaged.program("nginx", "usr/sbin/nginx")
    if not NGINX:
        harness.skip_all("nginx is neither installed nor to be had as a package")
    harness.main()
