"""What is printed, as one line: how it is folded is tested where it is."""

from transferpipe.planning.plan import Plan
from transferpipe.planning.tables.plan_table import plan_text


def unfolded(printed):
    """Return what `printed` says where there is room for it, with single spaces in place of line ends and columns."""
    text = plan_text(printed, width=1000) if isinstance(printed, Plan) else str(printed)
    return " ".join(text.split())
