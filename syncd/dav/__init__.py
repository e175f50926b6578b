# SPDX-License-Identifier: Apache-2.0
"""CalDAV: where the meetings go. It knows nothing of what the objects mean."""
