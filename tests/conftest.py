# SPDX-License-Identifier: Apache-2.0
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # no test asserts a time
settings.load_profile("unhurried")
