"""`environment`: which environment the database belongs to, and `environment set`."""

import argparse

from app.cli.answers import AS_JSON, Commands, answer
from app.report import Environment
from app.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    environment = commands.add_parser("environment", help="which environment the database belongs to")
    environment.set_defaults(command=_environment, name=None)
    environment.add_argument("--json", action="store_true", help=AS_JSON)
    actions = environment.add_subparsers(metavar="action")
    bind = actions.add_parser("set", help="bind the database to an environment, whatever it belonged to")
    bind.add_argument("name", type=_environment_name, help="such as production")
    bind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=AS_JSON)


def _environment_name(text: str) -> str:
    if not 0 < len(text.strip()) <= 100:  # noqa: PLR2004 – as the setting
        raise argparse.ArgumentTypeError("not a name of 1 to 100 characters")
    return text.strip()


def _environment(chosen: argparse.Namespace) -> int:
    async def work(read: Settings, _: str) -> Environment:
        from app.migrator import environment

        return await environment.bind(read, chosen.name) if chosen.name else await environment.environment(read)

    def tell(answer: Environment) -> str:
        if chosen.name is None:
            if answer.environment is None:
                return "The database belongs to no environment yet: the first run that has one will bind it."
            return f"The database belongs to {answer.environment}."
        return f"The database belongs to {answer.environment} now; before, to {answer.before or 'none'}."

    return answer(work, tell, as_json=chosen.json)
