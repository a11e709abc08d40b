"""The desk: what is drawn of a fleet for people. Charts, and the report; the page (web/) draws with them, too."""
