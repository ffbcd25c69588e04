"""``python -m cantlie``."""

from cantlie.cli.main import main

main()
