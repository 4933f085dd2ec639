"""From what ALTER TABLE asks for to the updates of a table's metadata: pure functions.

`alter` puts alterations on a state of a table. The others serve those who commit: `overlap` says whether somebody else
altered the same thing meanwhile, `stands` whether a state shows the alterations already, `requirements` what a REST
catalog has to find unchanged, and `replacement` is CREATE OR REPLACE TABLE.
"""

from icefusion.bridge.evolution.altering import alter
from icefusion.bridge.evolution.comparing import overlap, stands
from icefusion.bridge.evolution.properties import check_properties
from icefusion.bridge.evolution.replacing import replacement
from icefusion.bridge.evolution.requiring import requirements

__all__ = ["alter", "check_properties", "overlap", "replacement", "requirements", "stands"]
