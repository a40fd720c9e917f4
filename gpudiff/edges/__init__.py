"""Bytes to nouns and back: FITS, wire messages, transport, ledger, archive, alert codec, reports."""
