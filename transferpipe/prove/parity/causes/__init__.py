"""Why a layer gives other values than the original's: what is tried in its place, and what that shows."""
