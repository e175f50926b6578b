# SPDX-License-Identifier: Apache-2.0
"""Apache OpenMeetings, the link maker that creates entry hashes."""
