"""What generated deliveries are made of: who acts, what they do, what goes wrong, and one incident.

`archiver.generate` puts the parts together. Nobody in here is real: names are roles, mail
addresses are at example.com, IP addresses come from the ranges reserved for documentation
(RFC 5737, RFC 3849).
"""
