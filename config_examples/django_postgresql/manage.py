"""Django's command line."""

import os
import sys

from django.core.management import execute_from_command_line


def main(arguments):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reports.settings")
    execute_from_command_line(arguments)


if __name__ == "__main__":
    main(sys.argv)
