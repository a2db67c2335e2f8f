"""A foreign config file as a table: the meaning of each entry for our configs."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class ConfigTable:
    """Translates the entries of a foreign config into the fields of ours, and back.

    The table lists every entry that the foreign class computes with. An entry of the file sets a field, or must have
    the only value that we compute. All other entries change nothing, and are ignored.

    Args:
        fields: foreign entry → (our field, the value where the entry is absent).
        values: our field → {foreign value: our value}, for the fields whose values have other names there.
        fixed: foreign entry → the only value that our models compute.
        aliases: second name of a foreign entry → its first name.
    """

    fields: Mapping[str, tuple]
    values: Mapping[str, Mapping]
    fixed: Mapping[str, object]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, config, path):
        """Translates a foreign config into ours.

        Args:
            config: a dict.
            path: of the file that it was read from, for messages.

        Returns:
            A dict with each field of `fields`.

        Raises:
            ValueError: if an entry has a value that our models do not compute, or contradicts its alias. It names each.
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
            raise ValueError(f"Expected a config in {path} that this class can honour; {'; '.join(wrong)}.")
        return fields

    def write(self, fields):
        """Translates our config into the foreign one.

        Args:
            fields: a dict with each field of ours.

        Returns:
            A dict with each entry of `fixed` and of `fields`.

        Raises:
            ValueError: if a field has a value without a name there. It names each.
        """
        config, wrong = dict(self.fixed), []
        for name, (field, _) in self.fields.items():
            names = {ours: theirs for theirs, ours in reversed((self.values.get(field) or {}).items())}
            if names and fields[field] not in names:
                wrong.append(f"{field} must be one of {sorted(names)}, not {fields[field]!r}")
            config[name] = names.get(fields[field]) if names else fields[field]
        if wrong:
            raise ValueError(f"Expected a config that has a counterpart in this format; {'; '.join(wrong)}.")
        return config
