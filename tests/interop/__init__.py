"""What public suites and other brokers' tests ask of a broker, asked of this one.

The facts come from those suites; the tests are our own. Each file says which
suite's cases it holds, which have no place here, and where mqttd answers
otherwise on purpose.
"""
