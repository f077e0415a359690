"""Helpers that tests share: small videos, small networks, oracles, whole commands."""
