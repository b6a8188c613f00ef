"""Every exception to a lint rule, with its reason. (rule, path or folder with '/', reason)

A reason that no longer holds is removed here, not worked around; lint reports an entry that
excuses nothing.
SPDX-License-Identifier: Apache-2.0
"""

EXCEPTIONS = [
]
