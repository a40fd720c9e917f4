"""`gpudiff schema`: the Avro schemas of what is published, as JSON."""

import argparse
import json

from gpudiff.edges.alert_schema import NOTICE_ID, SCHEMA_ID, alert_schema, notice_schema

SCHEMAS = {"alert": (SCHEMA_ID, alert_schema), "notice": (NOTICE_ID, notice_schema)}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print an Avro schema as JSON, for programs that read the stream without gpudiff:\n\n"
        "    gpudiff schema alert > alert.avsc"
    )
    parser.add_argument("which", choices=sorted(SCHEMAS))
    parser.add_argument("--id", action="store_true", help="print its number in Confluent framing instead")


def run(arguments: argparse.Namespace) -> int:
    number, schema = SCHEMAS[arguments.which]
    print(number if arguments.id else json.dumps(schema(), indent=1))
    return 0
