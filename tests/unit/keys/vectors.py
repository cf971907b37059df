"""What the original programs produced (spec sysadm, appendix A), with keys that were thrown away."""

from __future__ import annotations

REGISTERED_KEY = (
    "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUlJQklqQU5CZ2txaGtpRzl3MEJBUUVGQUFPQ0FROEFNSUlCQ2dLQ0FRRUF3S2gx"
    "eVVGR2pJbFpLUGJ6MGtvdQoyOWUzWEpRaWRQT0dRRkJueU9sUVplRlMxWXhmNStQZ2Q5WTkxV1BIUVZyQ25lYzJoWVBUbjV2bGhH"
    "VEdibkt6CkNPa20yTDF2OTdrMTRWOWhSRDVuZnEwb1lFdGttT0NvdWtOYUI3ME5jaXA2TjJnK01HSm9lcEFNNzRROWkvMW8KWGxr"
    "L2JvT0NsdWwrQzhZM2ozdjdLTGxEM01TNHAzQ01WZ0JMK0ZNbFZNVUEweHVMZnhuV1B4U2lzNnBoNTJIMgpNQXo1WndUNi9pNzh0"
    "RWxaS0NLYVd4cktRZ1V1REY1dkZIQTVSK3k4WXQ0cEpsZlEzdjdLQWZ5MkdLcWJWNTg2CktGOHhDQ3pEdGZMS0ExSEZEMHNFRkto"
    "ZzVPUG94cmVKZUtYWUU4SkJoU3A0d3ZaTHhTNzk3dXZsU3pobjNIVWgKK3dJREFRQUIKLS0tLS1FTkQgUFVCTElDIEtFWS0tLS0t"
    "Cg=="
)
"""A1: a registered key, base64 of the 451 bytes of PEM text."""
CHECKSUM = "3zeuuptCTaTHEPwMPRZocw=="
"""A2: its checksum, base64 of the MD5 of the PEM text."""
CHALLENGE = "bVHNHA0u4F8MEr4NbnwlU0QHu4P9KV5MJlzTm43m"
"""A3: a challenge of the original bridge."""
ENCRYPTED_STRING = (
    "u01wcSJK1no+NpRgan/dogVnk1xC6OOWdbrGNjNN+UV6xJIRCTNjZJqsmT2uxLVOJNci2UV4vbozwBSVoVYn6iKEpWPa42FPW7xZ"
    "U5zW9ciMQgT36wSz7q/ELrdnD6PdwAPDy/ZGOqZ/caDyWmtjbg1Ido1Ir+zDTYIXu3+nHhm7yA1l2gsGVrCb6RO6TzXTTc8tORTT"
    "jztjCBKA7b3Lw4aIkrDaBo1Zh355Eh4rG5EU0HB+ihUHH+bsRZSuGHmjhRbjIrl/ckrXFJX2GBPFOpXV+V0QYdj1IyTo6c/6BuZb"
    "nJnXc6Y8gMkXcA1V5hcTeLkUWIuI7LFbc8BaIXXulg=="
)
"""A4: what the original client answered to it."""
