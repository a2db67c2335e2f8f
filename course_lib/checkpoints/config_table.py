"""Describes the config file of another library as a table: what each entry means for our configs."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class ConfigTable:
    """Translates the entries of another library's config into the fields of ours, and back.

    The table lists every entry that their class uses in its computation. Such an entry sets one of our fields, or must
    have the only value that our models support. All other entries do not change what is computed, and are ignored.

    Args:
        fields: their entry → (our field, their default value if the entry is absent).
        values: our field → {their value: our value}, for the fields whose values have different names in their files.
        fixed: their entry → the only value that our models support. None means that the entry is absent or null; such
            entries are not written, because `transformers` expects some of them to be a dict.
        aliases: second name of their entry → its first name.
    """

    fields: Mapping[str, tuple]
    values: Mapping[str, Mapping]
    fixed: Mapping[str, object]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, config, path):
        """Translates their config into ours.

        Args:
            config: dict of their entries.
            path: path of the file that it was read from, for error messages.

        Returns:
            A dict of our fields, those that `fields` names.

        Raises:
            ValueError: if an entry has a value that our models do not support, or contradicts its alias. The message
                names each.
        """
        wrong, config = [], dict(config)
        for alias, name in self.aliases.items():
            if alias in config and config[alias] != config.setdefault(name, config[alias]):
                wrong.append(f"{alias} and {name} are two names of one entry, and differ")
        for name, value in self.fixed.items():
            if config.get(name, value) != value:
                wrong.append(f"{name} must be {value!r}, not {config[name]!r}")
        fields = {}
        for name, (field, default) in self.fields.items():
            value, names = config.get(name, default), self.values.get(field)
            if names is None:
                fields[field] = value
            elif value in [*names]:
                fields[field] = names[value]
            else:
                wrong.append(f"{name} must be one of {sorted(names)}, not {value!r}")
        if wrong:
            raise ValueError(f"Expected a config in {path} that this class supports; {'; '.join(wrong)}.")
        return fields

    def write(self, fields):
        """Translates our config into theirs.

        Args:
            fields: dict with all fields of our config.

        Returns:
            A dict with each entry of `fields`, and of `fixed` unless it is None.

        Raises:
            ValueError: if a field has a value for which their files have no name. The message names each.
        """
        config, wrong = {name: value for name, value in self.fixed.items() if value is not None}, []
        for name, (field, _) in self.fields.items():
            names = {ours: theirs for theirs, ours in reversed((self.values.get(field) or {}).items())}
            if names and fields[field] not in names:
                wrong.append(f"{field} must be one of {sorted(names)}, not {fields[field]!r}")
            config[name] = names.get(fields[field]) if names else fields[field]
        if wrong:
            raise ValueError(f"Expected a config that has a counterpart in this format; {'; '.join(wrong)}.")
        return config
