"""What this machine has and lacks, and how to mend it: the checks behind `speechvq doctor`.

Nothing here needs a third-party package: a doctor that cannot start because something is missing
would be of no use.
"""
