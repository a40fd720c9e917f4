"""gpudiff keys: make keys, list them, say who may come in."""

import argparse
from pathlib import Path

DESCRIPTION = """\
Keys for sockets beyond this machine: frames and detections are then encrypted, and only those whose public key
is allowed come in.

On the service's machine, then with [security] keys = "keys" in its configuration:
  gpudiff keys make service
On the camera's machine:
  gpudiff keys make camera
Bring camera.key to the service and service.key to the camera (both are public), then on the service's machine:
  gpudiff keys allow camera.key
and on the camera's:
  gpudiff send --to tcp://SERVICE:5570 --key keys/camera.key_secret FRAMES...

A broker that subscribes to alerts beyond the machine is let in by `gpudiff keys allow broker.key --for alerts`.

A key is taken back by removing its file under keys/allowed; that and `allow` need no new start (a connection that
is open stays until it ends).
"""
FOR = "what it may send, or hear: frames (default), detections of a differencer, alerts of a ZeroMQ sink"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--keys", type=Path, default=Path("keys"), metavar="DIR", help="folder (default: keys)")
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = commands.add_parser("make", help="make a key pair: NAME.key_secret and NAME.key")
    make.add_argument("name", metavar="NAME", help='who it is for; the service\'s own is called "service"')
    commands.add_parser("list", help="list the pairs here and the keys that are allowed")
    allow = commands.add_parser("allow", help="let the owner of a public key in")
    allow.add_argument("file", type=Path, metavar="FILE", help="NAME.key")
    allow.add_argument(
        "--for", dest="door", choices=("frames", "detections", "alerts"), default="frames", help=FOR
    )


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges import keys

    folder = arguments.keys
    if arguments.action == "make":
        secret, public = keys.make(folder, arguments.name)
        print(f"{secret}: keep it here\n{public}: give it to the other side")
    elif arguments.action == "allow":
        may = "hear" if arguments.door == "alerts" else "send"
        print(f"{keys.allow(folder, arguments.file, arguments.door)}: may {may} {arguments.door}")
    else:
        for name, key in keys.own(folder).items():
            print(f"{'own':<12}{name:<20}{key.decode()}")
        for door in keys.DOORS:
            for name, key in keys.allowed(folder, door).items():
                print(f"{door:<12}{name:<20}{key.decode()}")
    return 0
