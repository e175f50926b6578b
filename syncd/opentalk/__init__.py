# SPDX-License-Identifier: Apache-2.0
"""Where meetings come from: an OpenTalk controller and its identity provider."""
