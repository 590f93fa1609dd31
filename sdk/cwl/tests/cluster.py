# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""An embedded cluster, and a registry with one image, for tests."""

import hashlib
import http.server
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import threading

import arvados
import arvados.collection

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.environ.get("ARVADOS_TEST_PROGRAMS", "")


class Cluster:
    """A running arvados-local, and its ordinary user's way to it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        data = os.path.join(self.folder.name, "data")
        program = os.path.join(PROGRAMS, "arvados-local")
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([program, "serve", "-data", data], stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.process.stdout.readline()  # it answers now
        # Nothing here may find a docker engine.
        self.env = {
            "PATH": ":".join([os.path.join(HOME, "bin"), PROGRAMS, os.path.dirname(sys.executable), "/usr/bin", "/bin"]),
            "HOME": self.folder.name,
            "DOCKER_HOST": "tcp://127.0.0.1:1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for line in subprocess.check_output([program, "env", "-data", data], text=True).splitlines():
            name, _, value = line[len("export ") :].partition("=")
            self.env[name] = shlex.split(value)[0]
        self.api = arvados.api("v1", host=self.env["ARVADOS_API_HOST"], token=self.env["ARVADOS_API_TOKEN"], insecure=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.folder.cleanup()

    def run(self, *args, **options):
        """Runs a program that has to succeed, and returns what it prints."""
        r = subprocess.run(args, env=self.env, capture_output=True, text=True, timeout=300, **options)
        if r.returncode != 0:
            raise AssertionError("%s: exit code %d\n%s\n%s" % (args, r.returncode, r.stdout, r.stderr))
        return r.stdout

    def commands(self):
        """The commands of all container requests, the first words of each."""
        requests = self.api.container_requests().list(order="created_at", limit=1000).execute()["items"]
        return [" ".join(r["command"][:2]) for r in requests]

    def text(self, location):
        """The content of a file in an output object."""
        pdh, _, path = location["location"][len("keep:") :].partition("/")
        with arvados.collection.CollectionReader(pdh, api_client=self.api).open(path) as file:
            return file.read()


def blob(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """A registry on loopback that has the image tool:latest: busybox."""

    def __init__(self):
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
        layer = layer.getvalue()
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [blob(layer)]}}).encode()
        kind = "application/vnd.oci.image."
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": kind + "manifest.v1+json",
                "config": {"mediaType": kind + "config.v1+json", "digest": blob(config), "size": len(config)},
                "layers": [{"mediaType": kind + "layer.v1.tar", "digest": blob(layer), "size": len(layer)}],
            }
        ).encode()
        manifest_type = kind + "manifest.v1+json"
        answers = {"/v2/": ("application/json", b"{}")}
        for name in "latest", blob(self.manifest):
            answers["/v2/tool/manifests/" + name] = (manifest_type, self.manifest)
        for content in layer, config:
            answers["/v2/tool/blobs/" + blob(content)] = ("application/octet-stream", content)

        class Handler(http.server.BaseHTTPRequestHandler):
            # So that who tries TLS first is told that this is HTTP.
            default_request_version = "HTTP/1.1"

            def do_GET(self):
                kind, content = answers.get(self.path, (None, b""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                if "/manifests/" in self.path:
                    self.send_header("Docker-Content-Digest", blob(content))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
