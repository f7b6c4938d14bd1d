"""Why Spark does not begin, from what its JVM said; the lines are Spark 4.2's own."""

from __future__ import annotations

import pytest

from ordertrail.engines.spark_start import why_not

EXITED = RuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.")
UNRESOLVED = """:: loading settings :: url = jar:file:/x/jars/ivy-2.5.3.jar!/org/apache/ivy/ivysettings.xml
:: resolving dependencies :: org.apache.spark#spark-submit-parent-1;1.0
:: problems summary ::
:::: WARNINGS
\t\tmodule not found: io.delta#delta-spark_4.2_2.13;4.4.0
\t\t::          UNRESOLVED DEPENDENCIES         ::
\t\t:: io.delta#delta-spark_4.2_2.13;4.4.0: not found
Exception in thread "main" x.RuntimeException: [unresolved dependency: io.delta#delta-spark_4.2_2.13;4.4.0: not found]
\tat org.apache.spark.deploy.SparkSubmitUtils$.resolveMavenCoordinates(SparkSubmit.scala:1)"""


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (UNRESOLVED, "cannot fetch io.delta:delta-spark_4.2_2.13:4.4.0", '"spark.jars" ='),
        ("JAVA_HOME is not set", "there is no Java", "Java 17"),
        ("/x/bin/spark-class: line 97: /opt/bin/java: No such file or directory", "there is no Java", "Java 17"),
        (
            'Exception in thread "main" java.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main',
            "there is no Java",
            "Java 17",
        ),
        (
            'Exception in thread "main" org.apache.spark.SparkException: bad master; password=abc',
            "bad master; password=***",
            "[spark] in the config",
        ),
        ("", "JAVA_GATEWAY_EXITED", "[spark] in the config"),
    ],
)
def test_why_spark_does_not_begin(said: str, message: str, hint: str) -> None:
    found = why_not(EXITED, said.splitlines())
    assert found.message.startswith("Spark does not begin: ")
    assert message in found.message
    assert hint in found.hint
    assert "\n" not in found.message
